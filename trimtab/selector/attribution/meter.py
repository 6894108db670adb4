"""What steering with a vector does on fixed pairs, and what it has cost to ask."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.steering.margin import Margin

GRADIENT_COST = 3  # a forward pass, and a backward pass of about twice its multiply-adds


class Meter:
    """Effects of an added vector `(d_model,)`, and their gradient, with a count of the cost.

    Args:
        effects: every pair's change of margin under an added vector, `(n_pairs,)`, nats per token.
        gradient: of the mean effect by the vector, `(d_model,)`, at an added vector.

    Attributes:
        cost: margin evaluations asked for so far; a gradient counts as `GRADIENT_COST`. What a
            journal answers counts too: it is the price of an estimator that stands alone.
    """

    def __init__(
        self,
        effects: Callable[[Tensor], NDArray[np.float64]],
        gradient: Callable[[Tensor], Tensor],
    ) -> None:
        self._effects = effects
        self._gradient = gradient
        self.cost = 0

    def effects(self, vector: Tensor) -> NDArray[np.float64]:
        """Return every pair's effect, `(n_pairs,)`."""
        self.cost += 1
        return self._effects(vector)

    def effect(self, vector: Tensor) -> float:
        """Return the mean effect."""
        return float(self.effects(vector).mean())

    def gradient(self, at: Tensor) -> Tensor:
        """Return the gradient of the mean effect by the added vector, `(d_model,)`."""
        self.cost += GRADIENT_COST
        return self._gradient(at)


def margin_effects(margin: Margin, vector: Tensor) -> NDArray[np.float64]:
    """Return what adding `vector` `(d_model,)` does to every pair's margin, `(n_pairs,)`."""
    return margin.effects(lambda x: x + vector.to(x))
