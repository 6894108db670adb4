"""Where the study's vectors are measured: each measurement once, whatever happens to the run."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.attribution import Meter
from trimtab.selector.attribution.meter import margin_effects
from trimtab.selector.journal import Journal
from trimtab.steering.calibration import calibrate
from trimtab.steering.damage import Damage
from trimtab.steering.margin import Margin
from trimtab.steering.vector import SteeringVector

BUDGET = 0.1  # nats per token

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lab:
    """Measures vectors on named margins, and brings them to equal damage.

    Attributes:
        journal: of every measurement.
        damage: meter of the damage that all vectors are compared at.
        margins: by name; `scored` gives attributions, `held_out` never does.
    """

    journal: Journal
    damage: Damage
    margins: Mapping[str, Margin]

    def effects(self, margin: str) -> Callable[[Tensor], Floats]:
        """Return what measures every pair's effect under an added vector, `(n_pairs,)`."""

        def measure(vector: Tensor) -> Floats:
            effects = partial(margin_effects, self.margins[margin], vector)
            key = ("effects", margin, _digest(vector))
            return np.array(self.journal.once(key, lambda: effects().tolist()))

        return measure

    def meter(self, margin: str) -> Meter:
        """Return a meter with a count of its own."""

        def gradient(at: Tensor) -> Tensor:
            measure = partial(self.margins[margin].gradient, at)
            key = ("gradient", margin, _digest(at))
            found: list[float] = self.journal.once(key, lambda: measure().tolist())
            return torch.tensor(found)

        return Meter(self.effects(margin), gradient)

    def at_equal_damage(self, direction: Tensor) -> Tensor:
        """Return a direction `(d_model,)`, whatever its length, as it is added at the budget.

        Raises:
            VectorError: no multiplier brings it there.
        """
        unit: Tensor = direction / direction.norm().clamp_min(1e-12)
        start = 0.1 * self.damage.residual_norm

        def measure() -> float:
            margin = next(iter(self.margins.values()))
            vector = SteeringVector(unit, margin.replay.hook_point)
            return calibrate(vector, self.damage, BUDGET, start=start).multiplier

        multiplier = float(self.journal.once(("calibrate", _digest(unit)), measure))
        return multiplier * unit

    def groups(self, margin: str) -> list[str]:
        """Return the groups of a margin's pairs."""
        return [sample.group for sample in self.margins[margin].samples]


def _digest(vector: Tensor) -> str:
    return hashlib.sha256(vector.float().contiguous().numpy().tobytes()).hexdigest()[:24]
