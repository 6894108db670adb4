"""How much of everything the study measures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Attributes are counts.

    Attributes:
        vectors: unlike vectors; on one half the target is calibrated, on the other it is judged.
        prompts: tuning prompts that surrogates and replies are measured on.
        questions: held-out questions whose replies are the truth.
        tokens: length of a reply.
        damage_texts: neutral texts of the damage meter.
        halvings: random halves of the vectors.
    """

    vectors: int = 80
    prompts: int = 40
    questions: int = 40
    tokens: int = 32
    damage_texts: int = 16
    halvings: int = 100


FULL = Sizes()
QUICK = Sizes(vectors=40, prompts=20, questions=40, tokens=24, damage_texts=8)
