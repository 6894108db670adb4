"""How well each surrogate ranks a panel of vectors as their behaviour rates do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.selector.audit.lds import MIN_SUBSETS, ceiling, lds, spearman
from trimtab.selector.intervals import RESAMPLES, Estimate
from trimtab.selector.target import learned
from trimtab.selector.target.member import Member
from trimtab.selector.target.surrogate import Surrogate

Floats = NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Standing:
    """What the surrogates are worth.

    Attributes:
        rates: behaviour rate of every vector, `(m,)`.
        effects: of every vector, `(m,)`, by surrogate; the mixture's are predictions by fits that
            left the vector out.
        correlations: Spearman with the behaviour rate by surrogate, with an interval over vectors.
        ceiling: split-half reliability of the behaviour rates themselves, over prompts.
        weights: of the mixture, by surrogate, per unit of effect; None where nothing was fitted.
    """

    rates: Floats
    effects: Mapping[str, Floats]
    correlations: Mapping[str, Estimate]
    ceiling: Estimate
    weights: Mapping[str, float] | None

    @property
    def best(self) -> str | None:
        """The surrogate that ranks best, the first of equals; None where none has a correlation."""
        known = {n: e.value for n, e in self.correlations.items() if e.value is not None}
        return max(known, key=lambda name: known[name]) if known else None

    def surely(self, better: str, worse: str) -> float:
        """Return in which share of bootstrap draws of the vectors one ranks better than another."""
        m = len(self.rates)
        draws = np.random.default_rng(0).integers(m, size=(RESAMPLES, m))
        rates = self.rates[draws]
        one, other = (spearman(self.effects[name][draws], rates) for name in (better, worse))
        return float((one > other).mean())


def standing(surrogates: Sequence[Surrogate], panel: Sequence[Member], say: Say) -> Standing:
    """Measure what surrogates, and their mixture, are worth on a panel."""
    shown = np.array([member.shown for member in panel], dtype=float)
    return compare(effects_on(panel, surrogates, say), shown)


def effects_on(
    panel: Sequence[Member], surrogates: Sequence[Surrogate], say: Say
) -> dict[str, Floats]:
    """Return every vector's effect, `(m,)`, by surrogate."""
    effects: dict[str, list[float]] = {surrogate.name: [] for surrogate in surrogates}
    for member in panel:
        say(f"what the surrogates say: {member.name}")
        for surrogate in surrogates:
            effects[surrogate.name].append(surrogate.effect(member.direction))
    return {name: np.array(values) for name, values in effects.items()}


def compare(effects: Mapping[str, Floats], shown: Floats) -> Standing:
    """Compare effects `(m,)` by surrogate to `shown` `(m, n_prompts)`, and fit the mixture.

    A surrogate by itself is not fitted: more of it has to mean more of the behaviour.
    """
    found, rates = dict(effects), shown.mean(1)
    columns = np.stack(list(effects.values()), axis=1)
    weights: dict[str, float] | None = None
    if len(rates) >= MIN_SUBSETS and np.ptp(rates) > 0:
        fitted = learned.fit(columns, rates)
        if fitted.any():
            weights = dict(zip(effects, fitted.tolist(), strict=True))
            found["learned"] = learned.predicted(columns, rates)
    return Standing(
        rates=rates,
        effects=found,
        correlations={name: lds(values, shown) for name, values in found.items()},
        ceiling=ceiling(shown, [str(i) for i in range(shown.shape[1])]),
        weights=weights,
    )
