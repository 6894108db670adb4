"""What surrogates are worth on vectors and questions that no choice has seen. Plain numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.targets.table import CHOICE
from trimtab.selector.audit.lds import lds
from trimtab.selector.intervals import Estimate
from trimtab.selector.ranks import ceiling
from trimtab.selector.target.standing import Said, Standing, compare
from trimtab.selector.target.trust import trusted_first

HALVING_DRAWS = 200  # of the vectors, by which a halving is sure of what it chooses

Floats = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Measured:
    """Every vector's effects and replies.

    Attributes:
        said: by surrogate.
        tune: whether its reply to each tuning prompt shows the behaviour, `(m, n_prompts)`.
        questions: the same of held-out questions, `(m, n_questions)`.
        other: of held-out questions again, by a judge of another kind.
        prompts: groups of the tuning prompts.
    """

    said: Mapping[str, Said]
    tune: Floats
    questions: Floats
    other: Floats
    prompts: Sequence[str]

    @property
    def effects(self) -> dict[str, Floats]:
        """Every vector's effect, `(m,)`, by surrogate."""
        return {name: one.effects for name, one in self.said.items()}

    def rows(self, index: NDArray[np.int64]) -> "Measured":
        """Return some of the vectors."""
        return Measured(
            {name: Said(one.parts[index], one.groups) for name, one in self.said.items()},
            self.tune[index],
            self.questions[index],
            self.other[index],
            self.prompts,
        )


def predictions(standing: Standing, effects: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return what each surrogate says of other vectors, `(m,)`, with the mixture and the choice.

    Args:
        standing: of the surrogates on the vectors that were calibrated on.
        effects: of the other vectors.
    """
    said = dict(effects)
    if standing.weights is not None:
        said["learned"] = np.sum(
            [w * effects[name] for name, w in standing.weights.items()], axis=0
        )
    if standing.best is not None:
        said[CHOICE] = said[trusted_first(standing)]
    return said


def worth(choose: Measured, report: Measured) -> tuple[list[Row], Standing]:
    """Return a row a surrogate: calibrated on one half, judged on the other.

    The last row is the ceiling: how reliable the truth itself is.
    """
    standing = compare(choose.said, choose.tune, choose.prompts)
    rows: list[Row] = []
    for name, said in predictions(standing, report.effects).items():
        inside = standing.correlations[trusted_first(standing) if name == CHOICE else name]
        rows.append(
            {
                "surrogate": name,
                "is": trusted_first(standing) if name == CHOICE else name,
                "calibration": inside,
                "held_out": lds(said, report.questions),
                "held_out_other_judge": lds(said, report.other),
            }
        )
    rows.append(
        {
            "surrogate": "reliability of the rates",
            "is": None,
            "calibration": standing.ceiling,
            "held_out": _ceiling(report.questions),
            "held_out_other_judge": _ceiling(report.other),
        }
    )
    return rows, standing


def over_halvings(measured: Measured, count: int, seed: int) -> list[Row]:
    """Return the same correlations over random halves of the vectors: mean and spread.

    `picked` is the share of the halvings in which the run would have chosen a surrogate.
    """
    n, rng = len(measured.tune), np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    picked: list[str | None] = []
    for _ in range(count):
        order = rng.permutation(n)
        choose, report = measured.rows(order[: n // 2]), measured.rows(order[n // 2 :])
        standing = compare(choose.said, choose.tune, choose.prompts, draws=HALVING_DRAWS)
        picked.append(standing.best and trusted_first(standing))
        for name, said in predictions(standing, report.effects).items():
            value = lds(said, report.questions).value
            if value is not None:
                found.setdefault(name, []).append(value)
    return [
        {
            "surrogate": name,
            "mean": float(np.mean(values)),
            "mean_low": float(np.quantile(values, 0.05)),
            "mean_high": float(np.quantile(values, 0.95)),
            "picked": picked.count(name) / count,
        }
        for name, values in found.items()
    ]


def _ceiling(shown: Floats) -> Estimate:
    return ceiling(shown, [str(i) for i in range(shown.shape[1])])
