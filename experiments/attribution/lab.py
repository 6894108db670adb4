"""Where the study's vectors are measured: scales, with the study's margins by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.attribution import Meter
from trimtab.selector.scales import Scales
from trimtab.steering.margin import Margin

BUDGET = 0.1  # nats per token

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lab:
    """Measures vectors on named margins, and brings them to equal damage.

    Attributes:
        scales: measure each thing once.
        margins: by name; `scored` gives attributions, `held_out` never does.
    """

    scales: Scales
    margins: Mapping[str, Margin]

    def effects(self, margin: str) -> Callable[[Tensor], Floats]:
        """Return what measures every pair's effect under an added vector, `(n_pairs,)`."""
        return self.scales.weigh(self.margins[margin], margin)

    def meter(self, margin: str) -> Meter:
        """Return a meter with a count of its own."""
        return self.scales.meter(self.margins[margin], margin)

    def at_equal_damage(self, direction: Tensor) -> Tensor:
        """Return a direction `(d_model,)`, whatever its length, as it is added at the budget.

        Raises:
            VectorError: no multiplier brings it there.
        """
        return self.scales.at_budget(direction)

    def groups(self, margin: str) -> list[str]:
        """Return the groups of a margin's pairs."""
        return self.margins[margin].groups
