"""A surrogate: a cheap measure that stands in for how often replies show the behaviour."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.target.ground import Ground
from trimtab.steering.margin import Margin

GRADIENT_STEPS = (0.0, 0.5, 1.0)  # shares of the dense vector at which a gradient is averaged

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Surrogate:
    """What candidates can be ranked by.

    Attributes:
        name: one of `trimtab.selector.surrogates.TARGETS`.
        effects: what a direction `(d_model,)` does at equal damage, as `(n,)` parts whose mean is
            the effect; 0 stands for nothing. Raises VectorError where no multiplier brings the
            direction to the damage budget.
        groups: of the parts, for a bootstrap, `n` of them.
        gradient: of the effect by the vector that is added, at an added vector, `(d_model,)` both;
            None where there is none.
    """

    name: str
    effects: Callable[[Tensor], Floats]
    groups: Sequence[str]
    gradient: Callable[[Tensor], Tensor] | None = None

    def effect(self, direction: Tensor) -> float:
        """Return what a direction `(d_model,)`, of whatever length, does at equal damage."""
        return float(self.effects(direction).mean())


def on_margin(
    name: str, ground: Ground, margin: Margin, texts: str, weights: Floats | None = None
) -> Surrogate:
    """Return the surrogate that is a weighted sum of a margin's effects, in nats per token.

    Args:
        name: of the surrogate.
        ground: where it is measured.
        margin: on fixed samples.
        texts: names the samples in the run's journal; other samples need another name.
        weights: of the samples, `(n_samples,)`; None takes their mean.
    """
    bench, n = ground.bench, len(margin.samples)
    shares = np.full(n, 1 / n) if weights is None else weights

    def effects(direction: Tensor) -> Floats:
        strength = bench.calibrate(direction).multiplier
        return n * shares * bench.effects(direction, margin, texts, strength)

    def gradient(at: Tensor) -> Tensor:
        def measure() -> list[float]:
            return [float(x) for x in margin.gradient(at, shares)]

        return torch.tensor(bench.journal.once(("gradient", name, texts, at.tolist()), measure))

    return Surrogate(name, effects, ground.matched(s.group for s in margin.samples), gradient)


def gradient_along(ground: Ground, surrogate: Surrogate) -> Tensor | None:
    """Return the gradient `(d_model,)`, averaged along the dense vector up to its multiplier.

    That is integrated gradients with a few steps; None where the surrogate has no gradient.
    """
    if surrogate.gradient is None:
        return None
    dense = ground.strength * ground.bench.vector(ground.dense).direction
    return torch.stack([surrogate.gradient(share * dense) for share in GRADIENT_STEPS]).mean(0)
