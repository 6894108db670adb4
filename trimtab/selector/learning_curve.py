"""How many pairs do I need? The effect over the number of pairs, measured and fitted.

1. Random subsets of 1, 2, 4, ... of n samples, a few draws a size, each subset's dense vector at
   equal damage.
2. A curve through them. The mean of n differences is what they share plus noise that shrinks with
   1/n. At equal damage the length of the vector cancels out: its effect goes with the effect of
   the direction over the square root of the damage, which is quadratic in it. So the effect of n
   samples is about `a / sqrt(1 + h / n)`: `a` is the asymptote, and h samples leave as much noise
   as there is signal, in the metric of the damage.
3. The n at which it reaches 95 % of `a`, and 95 % of the effect of all samples; the interval is a
   bootstrap over the draws and over the groups of the pairs that effects are measured on.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from trimtab.errors import VectorError
from trimtab.selector.intervals import MIN_GROUPS, Estimate, mean_estimate, tails

DRAWS = 4  # of each size but the whole: 29 subsets of 80 samples
SHARE = 0.95  # of the asymptote, and of the effect of all samples
BEYOND = 100  # times the samples there are: further out nothing is extrapolated
RESAMPLES = 300

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """What vectors of `n` random samples do: the mean over `draws` of them."""

    n: int
    draws: int
    effect: Estimate


@dataclass(frozen=True)
class LearningCurve:
    """The measured points and the curve through them.

    Attributes:
        points: by size.
        asymptote: `a`, the effect of as many samples as one likes.
        noise: `h`, in samples; None where nothing was fitted.
        misfit: largest distance of a size's mean from the curve, in the asymptote's units.
        needed: samples for `SHARE` of the effect of all `points[-1].n`.
        needed_of_asymptote: samples for `SHARE` of the asymptote.
    """

    points: tuple[Point, ...]
    asymptote: Estimate
    noise: float | None
    misfit: float | None
    needed: Estimate
    needed_of_asymptote: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict."""
        return {
            "share": SHARE,
            "points": [
                {"n": p.n, "draws": p.draws, "effect": p.effect.to_json()} for p in self.points
            ],
            "asymptote": self.asymptote.to_json(),
            "noise": self.noise,
            "misfit": self.misfit,
            "needed": self.needed.to_json(),
            "needed_of_asymptote": self.needed_of_asymptote.to_json(),
        }


def learning_curve(
    n: int,
    effects: Callable[[tuple[int, ...]], Floats],
    groups: Sequence[str],
    *,
    seed: int = 0,
) -> LearningCurve:
    """Measure random subsets of `n` samples and fit the curve.

    Args:
        n: how many samples there are.
        effects: what the vector of these samples does at equal damage, to every pair that is
            measured on (or to every question, for a behaviour rate), `(n_pairs,)`; it may raise
            VectorError where nothing brings the vector to the damage budget.
        groups: of those pairs.
        seed: of the subsets and of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    measured: dict[int, Floats] = {}  # by size, `(n_pairs, draws)`
    for size in subset_sizes(n):
        columns = []
        for _ in range(1 if size == n else DRAWS):
            kept = tuple(sorted(rng.permutation(n)[:size].tolist()))
            try:
                columns.append(effects(kept))
            except VectorError:  # the draw's vector does nothing to the predictions
                continue
        if columns:
            measured[size] = np.stack(columns, axis=1)
    points = tuple(
        Point(size, found.shape[1], mean_estimate(found, groups, seed=seed))
        for size, found in measured.items()
    )
    reason = _too_little(points, groups)
    if reason:
        none = Estimate(None, reason=reason)
        return LearningCurve(points, none, None, None, none, none)
    return _fitted(points, measured, groups, rng)


def subset_sizes(n: int) -> list[int]:
    """Return 1, 2, 4, ... and n itself."""
    return [*(2**k for k in range(n.bit_length()) if 2**k < n), n]


def fit(sizes: Floats, effects: Floats) -> tuple[float, float]:
    """Fit `a / sqrt(1 + h / n)` robustly; return `(a, h)`, h at most `BEYOND` times the largest n.

    Args:
        sizes: `(m,)`.
        effects: `(m,)`.
    """
    scale = max(float(np.abs(effects).max()), 1e-12)

    def residuals(parameters: Floats) -> Floats:
        return curve(sizes, scale * parameters[0], math.exp(parameters[1])) / scale - (
            effects / scale
        )

    largest = effects[sizes == sizes.max()].mean() / scale
    found = least_squares(
        residuals,
        x0=[largest, 0.0],
        bounds=([-np.inf, math.log(1e-3)], [np.inf, math.log(BEYOND * sizes.max())]),
        loss="soft_l1",
        f_scale=0.1,  # a tenth of the largest effect: draws further off pull less
    )
    return scale * float(found.x[0]), math.exp(found.x[1])


def curve(n: Floats, asymptote: float, noise: float) -> Floats:
    """Return the effect of `n` samples, `(m,)`."""
    return asymptote / np.sqrt(1 + noise / n)


def _needed(noise: float, share: float, of: float | None = None) -> float:
    """Return at which n the curve reaches a share of its asymptote, or of its value at `of`."""
    whole = 1.0 if of is None else 1 + noise / of
    return max(1.0, noise / (whole / share**2 - 1))


def _too_little(points: Sequence[Point], groups: Sequence[str]) -> str | None:
    """Return why nothing can be fitted; None where it can."""
    if len(points) < 3:
        return "a curve needs vectors of at least three sizes that can be measured"
    if len(set(groups)) < MIN_GROUPS:
        return f"a curve must be measured on pairs of at least {MIN_GROUPS} groups"
    if not (points[-1].effect.low or 0.0) > 0:
        return "the effect of all samples is not clear of zero, so there is nothing to reach"
    return None


def _fitted(
    points: tuple[Point, ...],
    measured: dict[int, Floats],
    groups: Sequence[str],
    rng: np.random.Generator,
) -> LearningCurve:
    total = max(measured)
    most = float(BEYOND * total)
    sizes = np.concatenate([np.full(m.shape[1], float(n)) for n, m in measured.items()])
    asymptote, noise = fit(sizes, np.concatenate([m.mean(0) for m in measured.values()]))
    means = np.array([m.mean() for m in measured.values()])
    misfit = np.abs(curve(np.array([*measured], dtype=float), asymptote, noise) - means).max()
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    found = []
    for _ in range(RESAMPLES):
        weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))[index]
        drawn = [m[:, rng.integers(m.shape[1], size=m.shape[1])] for m in measured.values()]
        effects = np.concatenate([weights @ m / weights.sum() for m in drawn])
        a, h = fit(sizes, effects)
        full = _needed(h, SHARE, total) if a > 0 else total
        found.append((a, full, min(_needed(h, SHARE), most) if a > 0 else most))
    low, high = np.quantile(np.array(found), tails(len(names)), axis=0)
    beyond = _needed(noise, SHARE)
    return LearningCurve(
        points,
        Estimate(asymptote, float(low[0]), float(high[0])),
        noise,
        float(misfit),
        Estimate(_needed(noise, SHARE, total), float(low[1]), float(high[1])),
        Estimate(beyond, float(low[2]), float(high[2]))
        if beyond < most
        else Estimate(
            None, reason=f"the curve has not flattened and says more than {most:,.0f} samples"
        ),
    )
