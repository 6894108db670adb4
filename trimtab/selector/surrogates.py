"""The measures that a run can aim at, by name, as people read them. Needs no model."""

SURROGATES = {
    "dataset": "the margin on the samples’ completions",
    "own_replies": "the margin on the model’s own replies",
    "dataset_first_tokens": "the margin on the first tokens of the samples’ completions",
    "own_replies_first_tokens": "the margin on the first tokens of the model’s own replies",
    "weighted_replies": "the model’s own replies weighted by the classifier",
    "projection": "the projection onto the dense vector",
    "learned": "a mixture fitted to behaviour rates",
}
"""What stands in for the behaviour rate."""

BEHAVIOR_RATE = "behavior_rate"
TARGETS = {**SURROGATES, BEHAVIOR_RATE: "the behaviour rate itself"}
"""What a run can be told to aim at."""

FLOOR = 0.3
"""A rank correlation below it says that a surrogate does not stand for the behaviour rate."""
