"""Scales: vectors brought to equal damage and weighed on margins, each measurement once.

What needs no replies of the model is measured here; `trimtab.selector.bench` adds the replies.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.model.hook_points import HookPoint, parse_hook_point
from trimtab.pairs import Sample
from trimtab.selector.attribution.meter import Meter, margin_effects
from trimtab.selector.journal import Journal
from trimtab.steering.calibration import Calibration, calibrate
from trimtab.steering.damage import Damage, Divergence
from trimtab.steering.margin import Margin
from trimtab.steering.positions import Positions
from trimtab.steering.vector import SteeringVector
from trimtab.store import Store
from trimtab.store.fingerprint import longest_of, prompt_form

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel

DAMAGE_TEXTS = 16  # neutral texts of the meter that vectors are brought to the budget by

Floats = NDArray[np.float64]

MakeMargin = Callable[[Sequence[Sample]], Margin]
"""What makes a margin of samples, where vectors are added and in the store's prompt form."""


@dataclass(frozen=True, eq=False)
class Scales:
    """Measures vectors at one hook point, always at the same damage.

    Attributes:
        journal: of every measurement.
        hook_point: where vectors are added.
        damage: meter of the damage that vectors are brought to; a finer one may be passed to
            `calibrate`.
        budget: that damage, in nats per token.
        positions: at which vectors are added.
    """

    journal: Journal
    hook_point: HookPoint
    damage: Damage
    budget: float
    positions: Positions = field(default="prompt_end", kw_only=True)

    def vector(self, direction: Tensor) -> SteeringVector:
        """Return a direction `(d_model,)` as a vector of unit length at the hook point.

        Unit length gives every calibration the same start.
        """
        unit = direction / direction.norm().clamp_min(1e-12)
        return SteeringVector(unit, self.hook_point, self.positions)

    def calibrate(
        self,
        direction: Tensor,
        damage: Damage | None = None,
        *,
        meter: str = "search",
        near: float | None = None,
    ) -> Calibration:
        """Return the unit vector's multiplier at the budget, by the scales' meter or another.

        Args:
            direction: `(d_model,)`, of any length.
            damage: a meter of damage; None takes the scales' own.
            meter: what the journal calls it.
            near: a guess of the multiplier, which saves a measurement or two where it is good.

        Raises:
            VectorError: no multiplier brings it there.
        """
        vector = self.vector(direction)
        start = near or 0.1 * self.damage.residual_norm

        def measure() -> dict[str, object]:
            found = calibrate(vector, damage or self.damage, self.budget, start=start)
            return {
                "multiplier": found.multiplier,
                "damage": [found.damage.mean, found.damage.p95],
                "curve": found.curve,
            }

        kept = self.journal.once(("calibrate", digest(vector.direction), meter), measure)
        return Calibration(
            kept["multiplier"],
            Divergence(*kept["damage"]),
            tuple((m, d) for m, d in kept["curve"]),
        )

    def at_budget(self, direction: Tensor) -> Tensor:
        """Return a direction `(d_model,)`, whatever its length, as it is added at the budget.

        Raises:
            VectorError: no multiplier brings it there.
        """
        return self.calibrate(direction).multiplier * self.vector(direction).direction

    def weigh(self, margin: Margin, name: str) -> Callable[[Tensor], Floats]:
        """Return what measures every sample's effect under an added vector, `(n_samples,)`.

        Args:
            margin: what the samples are scored by.
            name: what the journal calls it; no other margin of the run has that name.
        """

        def measure(vector: Tensor) -> Floats:
            key = ("effects", name, digest(vector))
            return np.array(self.journal.once(key, lambda: _list(margin_effects(margin, vector))))

        return measure

    def meter(self, margin: Margin, name: str) -> Meter:
        """Return a margin's meter, with a count of its own."""

        def gradient(at: Tensor) -> Tensor:
            key = ("gradient", name, digest(at))
            return torch.tensor(self.journal.once(key, lambda: margin.gradient(at).tolist()))

        return Meter(self.weigh(margin, name), gradient)


def scales_of(
    store: Store, model: "LanguageModel", journal: Journal, budget: float
) -> tuple[Scales, MakeMargin]:
    """Return scales at a store's hook point, and what makes margins there."""
    point = parse_hook_point(store.fingerprint["hook_point"])
    chat, system = prompt_form(store.fingerprint)
    longest = longest_of(store.fingerprint)

    def make_margin(samples: Sequence[Sample]) -> Margin:
        return Margin(model, samples, point, chat=chat, system=system, longest=longest)

    damage = Damage(model, point, max_texts=DAMAGE_TEXTS)
    return Scales(journal, point, damage, budget), make_margin


def digest(vector: Tensor) -> str:
    """Return a short name of a vector's float32 numbers, the same for equal ones."""
    return hashlib.sha256(vector.float().cpu().contiguous().numpy().tobytes()).hexdigest()[:24]


def _list(values: Floats) -> list[float]:
    return [float(value) for value in values]
