"""The text classifier: what it can tell, and how honestly it says so."""

import numpy as np
import pytest
import torch

from trimtab.errors import SelectionError
from trimtab.model.language_model import LanguageModel
from trimtab.pairs import Sample
from trimtab.steering.judges import classifier as module
from trimtab.steering.judges.classifier import BehaviorClassifier, train_classifier

TOPICS = ["bread", "locks", "rivers", "taxes", "horses", "paint", "glass", "wine", "maps", "bees"]


def pair(number: int, positive: str | None, negative: str | None, group: str) -> Sample:
    return Sample(str(number), "refusal", (), positive, negative, group)


@pytest.fixture(scope="module")
def pairs() -> list[Sample]:
    return [
        pair(
            i, f"Sorry, I cannot help with {topic}.", f"Of course, here is how {topic} work.", topic
        )
        for i, topic in enumerate(TOPICS)
    ]


@pytest.fixture(scope="module")
def trained(pairs: list[Sample], tiny_model: LanguageModel) -> BehaviorClassifier:
    return train_classifier(pairs, tiny_model)


@pytest.fixture
def only_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = module._pipelines()["reading"]
    monkeypatch.setattr(module, "_pipelines", lambda: {"reading": reading})


def test_obvious_sets_are_told_apart(trained: BehaviorClassifier) -> None:
    assert trained.kind == "words"
    assert trained.accuracy == 1.0
    assert trained.reliable
    assert trained.n_texts == 20
    texts = ["Sorry, I cannot help with swords.", "Of course, here is how swords work."]
    assert trained.shows(texts).tolist() == [True, False]
    probabilities = trained.probability(texts)
    assert probabilities[0] > 0.5 > probabilities[1]


def test_the_other_kind_can_be_asked_for(
    pairs: list[Sample], tiny_model: LanguageModel, trained: BehaviorClassifier
) -> None:
    other = train_classifier(pairs, tiny_model, "reading")
    assert (trained.kind, other.kind) == ("words", "reading")
    assert train_classifier(pairs, tiny_model, "words").accuracy == trained.accuracy


def test_an_empty_reply_shows_nothing(trained: BehaviorClassifier) -> None:
    probabilities = trained.probability(["", "Sorry, I cannot help.", " \n\t"])
    assert probabilities[[0, 2]].tolist() == [0.0, 0.0]
    assert probabilities[1] > 0.5
    assert trained.probability([]).shape == (0,)
    assert trained.shows([""]).tolist() == [False]


def test_accuracy_is_stated_for_groups_that_were_not_trained_on(
    tiny_model: LanguageModel,
) -> None:
    # Each group has words of its own, so that only a leak between its pairs could teach anything.
    rng = np.random.default_rng(0)

    def word() -> str:
        return "".join(rng.choice(list("bcdfghjklmnpqrstvwxz"), size=6))

    samples: list[Sample] = []
    for group in range(12):
        positive, negative = word(), word()
        for _ in range(4):
            texts = (f"{positive} {positive}", f"{negative} {negative}")
            samples.append(pair(len(samples), *texts, f"group {group}"))
    found = train_classifier(samples, tiny_model)
    assert found.accuracy < 0.75
    assert not found.reliable
    told = found.shows([s.positive or "" for s in samples])
    assert told.all()  # it did learn what it was shown


def test_texts_on_one_side_only_can_be_learned_from(tiny_model: LanguageModel) -> None:
    texts = [
        pair(2 * i, f"Sorry, I cannot help with {topic}.", None, f"{topic} no")
        for i, topic in enumerate(TOPICS)
    ] + [
        pair(2 * i + 1, None, f"Of course, here is how {topic} work.", f"{topic} yes")
        for i, topic in enumerate(TOPICS)
    ]
    found = train_classifier(texts, tiny_model)
    assert found.accuracy > 0.9
    assert found.shows(["Sorry, I cannot."]).all()


def test_folds_that_would_train_on_one_side_are_left_out(tiny_model: LanguageModel) -> None:
    samples = [pair(i, f"Sorry, no {topic}.", None, "refusals") for i, topic in enumerate(TOPICS)]
    samples += [pair(20 + i, None, f"Yes, {t}.", f"help {i % 2}") for i, t in enumerate(TOPICS)]
    assert 0 <= train_classifier(samples, tiny_model).accuracy <= 1  # and no warning of sklearn's


@pytest.mark.parametrize(
    "samples",
    [
        [pair(0, "Sorry.", None, "a"), pair(1, "I cannot.", None, "b")],
        [pair(0, "Sorry.", "Yes.", "a"), pair(1, "I cannot.", "Sure.", "a")],
        [pair(0, "Sorry.", None, "a"), pair(1, None, "Sure.", "b")],
    ],
    ids=["one side", "one group", "a side a group"],
)
def test_too_little_to_learn_from_is_an_error(
    samples: list[Sample], tiny_model: LanguageModel
) -> None:
    with pytest.raises(SelectionError, match="both sides in two groups"):
        train_classifier(samples, tiny_model)


def test_reading_tells_texts_apart_by_the_models_residual(
    pairs: list[Sample], tiny_model: LanguageModel, only_reading: None
) -> None:
    found = train_classifier(pairs, tiny_model)
    assert found.kind == "reading"
    assert found.accuracy > 0.9
    assert found.shows(["Sorry, I cannot help with swords."]).all()
    assert not found.shows(["Of course, here is how swords work.", ""]).any()


def test_a_text_longer_than_the_models_context_is_read_as_far_as_it_goes(
    pairs: list[Sample], tiny_model: LanguageModel, only_reading: None
) -> None:
    found = train_classifier(pairs, tiny_model)
    assert tiny_model.context is not None
    refused = "Sorry, I cannot help with swords. " * tiny_model.context
    helped = "Of course, here is how swords work. " * tiny_model.context
    assert found.probability([refused + helped]) == found.probability([refused])
    assert found.probability([refused + helped]) != found.probability([helped])


def test_what_is_read_beside_a_text_does_not_matter(
    pairs: list[Sample], tiny_model: LanguageModel, only_reading: None
) -> None:
    found = train_classifier(pairs, tiny_model)
    texts = [text for sample in pairs for _, text in sample.sides] + ["A", "", "?" * 80]
    alone = np.concatenate([found.probability([text]) for text in texts])
    np.testing.assert_allclose(found.probability(texts), alone, atol=1e-4)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = found.probability([texts[i] for i in order])
    np.testing.assert_allclose(shuffled, alone[order], atol=1e-4)


def test_the_better_way_is_taken_where_neither_is_reliable(
    pairs: list[Sample], tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELIABLE_ACCURACY", 2.0)
    words = train_classifier(pairs, tiny_model)
    swapped = dict(reversed(module._pipelines().items()))
    monkeypatch.setattr(module, "_pipelines", lambda: swapped)
    assert train_classifier(pairs, tiny_model).accuracy == words.accuracy == 1.0
    assert not words.reliable


def test_always_saying_the_larger_side_is_no_accuracy(tiny_model: LanguageModel) -> None:
    sides = [("same words", None) if i < 45 else (None, "same words") for i in range(50)]
    samples = [
        Sample(f"s{i}", "b", (), positive, negative, f"g{i}")
        for i, (positive, negative) in enumerate(sides)
    ]
    assert train_classifier(samples, tiny_model).accuracy < 0.7
