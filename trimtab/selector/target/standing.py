"""How well each surrogate ranks a panel of vectors as their behaviour rates do.

Rates and surrogates are measured on the same few prompts, and the model's own replies were written
to them, so that a surrogate knows the prompts that it is judged by. Therefore it is asked across
prompts: on one half of them it speaks, on the other half the replies are judged, over random
halves. (Formality, 40 vectors: own replies 0.90 with the replies to the same prompts, 0.80 across
them, 0.74 on other questions.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.selector.intervals import Estimate
from trimtab.selector.ranks import MIN_VECTORS, ceiling, spearman
from trimtab.selector.target import learned
from trimtab.selector.target.member import Member
from trimtab.selector.target.surrogate import Surrogate

HALVINGS = 10  # of the prompts; either half is judged once
MIN_GROUPS = 4  # of prompts, below which none is left out
DRAWS = 500  # of the vectors, for intervals

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Said:
    """What a surrogate says of vectors, part by part.

    Attributes:
        parts: `(m, n)`, of m vectors; their mean is the effect.
        groups: of the parts.
    """

    parts: Floats
    groups: Sequence[str]

    @property
    def effects(self) -> Floats:
        """Every vector's effect, `(m,)`."""
        effects: Floats = self.parts.mean(1)
        return effects

    def without(self, groups: set[str]) -> Floats:
        """Return the effects on parts of other groups; on all parts where there are no others."""
        others = np.array([group not in groups for group in self.groups])
        effects: Floats = self.parts[:, others if others.any() else ~others].mean(1)
        return effects


@dataclass(frozen=True, eq=False)
class Standing:
    """What the surrogates are worth.

    Attributes:
        effects: of every vector, `(m,)`, by surrogate; the mixture's are predictions by fits that
            left the vector out.
        correlations: Spearman with the behaviour rate by surrogate, across prompts, with an
            interval over vectors.
        draws: of these correlations, `(draws,)`, over the same draws of the vectors.
        ceiling: split-half reliability of the behaviour rates themselves, over prompts.
        weights: of the mixture, by surrogate, per unit of effect; None where nothing was fitted.
    """

    effects: Mapping[str, Floats]
    correlations: Mapping[str, Estimate]
    draws: Mapping[str, Floats]
    ceiling: Estimate
    weights: Mapping[str, float] | None

    @property
    def best(self) -> str | None:
        """The surrogate that ranks best, the first of equals; None where none has a correlation."""
        known = {n: e.value for n, e in self.correlations.items() if e.value is not None}
        return max(known, key=lambda name: known[name]) if known else None

    def surely(self, better: str, worse: str) -> float:
        """Return in which share of bootstrap draws of the vectors one ranks better than another."""
        return float((self.draws[better] > self.draws[worse]).mean())


def standing(
    surrogates: Sequence[Surrogate], panel: Sequence[Member], prompts: Sequence[str], say: Say
) -> Standing:
    """Measure what surrogates, and their mixture, are worth on a panel.

    Args:
        surrogates: all that there are.
        panel: vectors whose replies were judged.
        prompts: groups of the prompts that were replied to.
        say: told what is being done.
    """
    shown = np.array([member.shown for member in panel], dtype=float)
    return compare(said_of(panel, surrogates, say), shown, prompts)


def said_of(panel: Sequence[Member], surrogates: Sequence[Surrogate], say: Say) -> dict[str, Said]:
    """Return what every surrogate says of every vector."""
    parts: dict[str, list[Floats]] = {surrogate.name: [] for surrogate in surrogates}
    for member in panel:
        say(f"measuring the surrogates: {member.name}")
        for surrogate in surrogates:
            parts[surrogate.name].append(surrogate.effects(member.direction))
    return {s.name: Said(np.stack(parts[s.name]), list(s.groups)) for s in surrogates}


def compare(
    said: Mapping[str, Said],
    shown: Floats,
    prompts: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Standing:
    """Compare what surrogates say of m vectors to what the model wrote under them.

    A surrogate by itself is not fitted: more of it has to mean more of the behaviour.

    Args:
        said: by surrogate.
        shown: whether the reply to each prompt shows the behaviour, `(m, n_prompts)`.
        prompts: groups of the prompts.
        draws: of the vectors, for intervals.
        seed: of halves and draws.
    """
    effects, rates = {name: one.effects for name, one in said.items()}, shown.mean(1)
    weights: dict[str, float] | None = None
    if len(rates) >= MIN_VECTORS and np.ptp(rates) > 0:
        columns = np.stack(list(effects.values()), axis=1)
        fitted = learned.fit(columns, rates)
        if fitted.any():
            weights = dict(zip(said, fitted.tolist(), strict=True))
            effects["learned"] = learned.predicted(columns, rates)
    rng = np.random.default_rng(seed)
    judged = _halves(prompts, rng)
    truth = [shown[:, half].mean(1) for half in judged]
    index = rng.integers(len(rates), size=(draws, len(rates)))
    correlations, drawn = {}, {}
    for name in effects:
        reason = _why_none(effects[name], rates, prompts)
        if reason:
            correlations[name] = Estimate(None, reason=reason)
            continue
        spoken = [_spoken(name, said, shown, prompts, half) for half in judged]
        drawn[name] = _mean(
            np.stack([spearman(s[index], t[index]) for s, t in zip(spoken, truth, strict=True)])
        )
        value = _mean(np.stack([spearman(s, t) for s, t in zip(spoken, truth, strict=True)]))
        low, high = np.nanquantile(drawn[name], [0.025, 0.975])
        correlations[name] = Estimate(float(value), float(low), float(high))
    return Standing(effects, correlations, drawn, ceiling(shown, prompts, seed=seed), weights)


def _spoken(
    name: str, said: Mapping[str, Said], shown: Floats, prompts: Sequence[str], judged: Bools
) -> Floats:
    """Return what a surrogate says of each vector without the prompts that are judged, `(m,)`."""
    left_out = {group for group, out in zip(prompts, judged, strict=True) if out}
    if name in said:
        return said[name].without(left_out)
    columns = np.stack([one.without(left_out) for one in said.values()], axis=1)
    return learned.predicted(columns, shown[:, ~judged].mean(1))


def _halves(prompts: Sequence[str], rng: np.random.Generator) -> list[Bools]:
    """Return masks of the prompts, `(n_prompts,)` each: either half of each halving of groups."""
    names, index = np.unique(np.asarray(prompts, dtype=str), return_inverse=True)
    if len(names) < MIN_GROUPS:
        return []
    halves = []
    for _ in range(HALVINGS):
        half = (rng.permutation(len(names)) < len(names) // 2)[index]
        halves += [half, ~half]
    return halves


def _why_none(effects: Floats, rates: Floats, prompts: Sequence[str]) -> str | None:
    """Return why there is no rank correlation; None where there is one."""
    if len(rates) < MIN_VECTORS:
        return f"a rank correlation needs {MIN_VECTORS} vectors or more"
    if len(set(prompts)) < MIN_GROUPS:
        return f"a rank correlation across prompts needs {MIN_GROUPS} groups of them or more"
    if np.ptp(effects) == 0 or np.ptp(rates) == 0:
        return "all predictions, or all measurements, are the same"
    return None


def _mean(found: Floats) -> Floats:
    """Return the mean over the first axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(found)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, found, 0.0).sum(0) / known.sum(0)
    return mean
