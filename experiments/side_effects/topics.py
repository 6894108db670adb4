"""MMLU's subjects by topic, the features of a topic, and what unlearns them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trimtab.model.sae import SAE
from trimtab.steering.apply import Edit

TOPICS: dict[str, tuple[str, ...]] = {
    "biology and medicine": (
        *("anatomy", "clinical_knowledge", "college_biology", "college_medicine"),
        *("high_school_biology", "human_aging", "human_sexuality", "medical_genetics"),
        *("nutrition", "professional_medicine", "virology"),
    ),
    "physics and chemistry": (
        *("astronomy", "college_chemistry", "college_physics", "conceptual_physics"),
        *("electrical_engineering", "high_school_chemistry", "high_school_physics"),
    ),
    "mathematics": (
        *("abstract_algebra", "college_mathematics", "elementary_mathematics"),
        *("formal_logic", "high_school_mathematics", "high_school_statistics"),
    ),
    "computing": (
        *("college_computer_science", "computer_security"),
        *("high_school_computer_science", "machine_learning"),
    ),
    "law": ("international_law", "jurisprudence", "professional_law"),
    "history": (
        *("high_school_european_history", "high_school_us_history"),
        *("high_school_world_history", "prehistory"),
    ),
    "philosophy and religion": (
        *("logical_fallacies", "moral_disputes", "moral_scenarios"),
        *("philosophy", "world_religions"),
    ),
    "economics and business": (
        *("business_ethics", "econometrics", "high_school_macroeconomics"),
        *("high_school_microeconomics", "management", "marketing"),
        *("professional_accounting", "public_relations"),
    ),
    "society": (
        *("high_school_geography", "high_school_government_and_politics"),
        *("high_school_psychology", "professional_psychology", "security_studies"),
        *("sociology", "us_foreign_policy"),
    ),
}
"""MMLU's subjects, but `global_facts` and `miscellaneous`; a finer grouping than its own four."""


def topic_of(category: str) -> str:
    """Return the topic of a subject; one that no topic has is its own."""
    return next((topic for topic, known in TOPICS.items() if category in known), category)


def topic_features(means: Tensor, of_topic: Sequence[bool], count: int) -> list[int]:
    """Return the features that fire more on a topic's questions than on others, the surest first.

    Args:
        means: mean activation of each feature on each question, `(n, d_sae)`.
        of_topic: which of the questions are the topic's.
        count: at most so many.
    """
    own = torch.tensor(list(of_topic))
    inside, outside = means[own], means[~own]
    error = (inside.var(0) / len(inside) + outside.var(0) / len(outside)).sqrt()
    apart = inside.mean(0) - outside.mean(0)
    # Welch's t, with a floor so that a feature seen on few questions does not look sure
    sureness = apart / (error + 0.1 * error[error > 0].median())
    best = torch.where(apart > 0, sureness, -torch.inf).argsort(descending=True, stable=True)
    return [feature for feature in best[:count].tolist() if apart[feature] > 0]


def where_it_fires(sae: SAE, values: Mapping[int, float]) -> Edit:
    """Return what sets features to values wherever they fire, and touches nothing elsewhere.

    What the SAE does not reconstruct stays. This is how topics are unlearned with SAEs (Farrell et
    al. 2024, https://arxiv.org/abs/2410.19278); clamped everywhere, a negative value would be an
    added vector. It spares attention sinks where the features are silent on them.
    """
    features = torch.tensor(list(values))
    wanted = torch.tensor(list(values.values()), dtype=torch.float32)

    def change(x: Tensor) -> Tensor:
        before = sae.encode(x)[..., features.to(sae.device)]
        after = torch.where(before > 0, wanted.to(before), before)
        moved = (after - before) @ sae.W_dec[features.to(sae.device)]
        return x + moved.to(x)

    return change
