"""How much of everything the study measures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Attributes are counts, unless it says otherwise.

    Attributes:
        halves: half-subsets of the samples.
        small: subsets of each of the sizes in `small_sizes`.
        parts: half-subsets of the features, and of the cells.
        calibrated: half-subsets that are measured at equal damage too.
        features: features that play, the largest terms of the full SAE vector.
        pairs: pairs that are scored, and that are held out; at most.
        budget: evaluations of the estimators that sample coalitions.
        draws: of a random control.
        seeds: of the poison; five or more give an interval.
        shares: of the pairs that are poisoned.
        measured_in_poison: estimators that measure many coalitions join the poison audit.
        damage_texts: neutral texts of the damage meter.
    """

    halves: int = 200
    small: int = 70
    small_sizes: tuple[int, ...] = (8, 16, 32)
    parts: int = 100
    calibrated: int = 20
    features: int = 64
    pairs: int = 40
    budget: int = 256
    draws: int = 20
    seeds: int = 10
    shares: tuple[float, ...] = (0.05, 0.1, 0.2)
    measured_in_poison: bool = True
    damage_texts: int = 24


FULL = Sizes()
MEDIUM = Sizes(
    small=24,
    parts=48,
    features=48,
    pairs=24,
    budget=96,
    draws=5,
    seeds=5,
    measured_in_poison=False,
    damage_texts=8,
)
QUICK = Sizes(
    halves=40,
    small=12,
    parts=24,
    calibrated=10,
    features=24,
    pairs=12,
    budget=64,
    draws=3,
    seeds=5,
    shares=(0.1,),
    measured_in_poison=False,
    damage_texts=4,
)
SIZES = {"full": FULL, "medium": MEDIUM, "quick": QUICK}
"""By name: for a GPU, for an hour of a CPU core, for a quarter of one."""
