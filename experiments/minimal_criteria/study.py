"""What makes a pair useful, and does the answer differ between behaviours?

A pair's usefulness is measured: the effect, on tuning pairs, of the vector of that pair alone, at
equal damage. It is then set beside what can be seen of the pair (size of its difference, agreement
with the others, length, topic, position of the positive answer), one criterion at a time; beside
what a model learnt from other pairs, and from other behaviours; and beside its own split-half
reliability, which no criterion can be expected to pass. Choices by each are judged by their
held-out effect against as many random pairs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.checked import Count
from experiments.laboratory import Laboratory
from experiments.minimal_criteria.criteria import CRITERIA
from experiments.record import Row, say
from experiments.subject import Subject
from trimtab.errors import VectorError
from trimtab.selector.exploration.pruning import drop_order
from trimtab.selector.intervals import Estimate
from trimtab.selector.learned.validation import (
    Training,
    predictions,
    predictions_across,
    rank_correlation,
    top_against_random,
)
from trimtab.selector.ranks import ceiling

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        kept: numbers of pairs that are chosen.
    """

    kept: tuple[Count, ...] = (4, 12)


SIZES = Sizes()
RELIABILITY = "reliability of the usefulness itself"


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables."""
    subjects = [subject for subject in laboratory.subjects() if subject.paired]
    trainings: dict[str, Training] = {}
    measured: dict[str, Floats] = {}
    for subject in subjects:
        say(f"{subject.name}: every pair alone")
        groups = tuple(sample.group for sample in subject.material.select)
        measured[subject.name] = alone(subject)
        useful = measured[subject.name].mean(1)
        trainings[subject.name] = Training(subject.parts, groups, useful)
    across = predictions_across(trainings, "learned") if len(trainings) > 1 else {}
    criteria: list[Row] = []
    choices: list[Row] = []
    pairs: list[Row] = []
    for subject in subjects:
        training = trainings[subject.name]
        seen = {name: criterion(subject) for name, criterion in CRITERIA.items()}
        learnt = {"learnt from other pairs": predictions(training, "learned")}
        if subject.name in across:
            learnt["learnt from other behaviours"] = across[subject.name]
        found = {name: _ranked(values, training) for name, values in (seen | learnt).items()}
        found[RELIABILITY] = ceiling(measured[subject.name], subject.tune.groups)
        criteria += [
            {"behavior": subject.name, "criterion": name, "spearman": estimate}
            for name, estimate in found.items()
        ]
        pairs += [
            {"behavior": subject.name, "sample": sample_id, "usefulness": useful}
            | {name: float(values[i]) for name, values in seen.items()}
            for i, (sample_id, useful) in enumerate(
                zip(training.parts.sample_ids, training.usefulness, strict=True)
            )
        ]
        ways = {
            name: seen[name] for name in ("size of the difference", "agreement with the others")
        }
        ways |= learnt | {"iterative pruning": pruned(subject), "measured": training.usefulness}
        chosen = _choices(subject, ways, laboratory.sizes.kept)
        choices += laboratory.rows(f"{subject.name}, choices", chosen)
    return {"criteria": criteria, "choices": choices, "pairs": pairs}


def alone(subject: Subject) -> Floats:
    """Return the effects of every pair's own vector on the tuning pairs, `(n, n_tune)`.

    A pair that nothing brings to the damage budget steers nothing: its effects are 0.
    """
    found = np.zeros((subject.parts.n_samples, len(subject.tune.samples)))
    for i, row in enumerate(subject.parts.residual):
        try:
            found[i] = subject.tuned(subject.bench.at_budget(row))
        except VectorError:
            say(f"{subject.name}: {subject.parts.sample_ids[i]} cannot be brought to the budget")
    return found


def pruned(subject: Subject) -> Floats:
    """Return how late iterative pruning drops each pair, `(n,)`."""
    order = drop_order(subject.parts.residual, subject.gradient)
    late = np.zeros(len(order))
    late[order] = np.arange(len(order))
    return late


def _ranked(values: Floats, training: Training) -> Estimate:
    known = np.isfinite(values)
    if not known.any():
        return Estimate(None, reason="no pair has one")
    groups = [group for group, one in zip(training.groups, known, strict=True) if one]
    return rank_correlation(values[known], training.usefulness[known], groups)


def _choices(subject: Subject, ways: Mapping[str, Floats], kept: Sequence[int]) -> Iterator[Row]:
    """Yield what the vectors of chosen pairs do, and first that of all pairs."""
    everyone = {"behavior": subject.name, "way": "all pairs", "k": subject.parts.n_samples}
    yield everyone | {"effect": subject.effect([subject.dense])}
    for k in kept:
        for way, score in ways.items():
            say(f"{subject.name}: {k} pairs by {way}")
            yield _choice(subject, way, score, k)


def _choice(subject: Subject, way: str, score: Floats, k: int) -> Row:
    top = top_against_random(
        subject.parts,
        score,
        k,
        lambda direction: subject.effects(subject.bench.at_budget(direction)),
        subject.groups,
    )
    return {
        "behavior": subject.name,
        "way": way,
        "k": k,
        "effect": top.best,
        "random": top.random,
        "beyond_random": top.beyond,
    }
