"""Clamping SAE features to fixed values, with the SAE's reconstruction error kept."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.steering.apply import Edit, steered
from trimtab.steering.positions import Positions, check_positions


@dataclass(frozen=True, eq=False)
class FeatureClamp:
    """Sets features of `sae` to `multiplier * values[feature]`, in units of their activation.

    The residual becomes `x + (decode(f') - decode(f))`: what the SAE does not reconstruct of `x`
    stays, and with these brackets nothing changes, bit for bit, where `f' = f`.

    Raises:
        VectorError: no feature is given, one is outside the SAE, a value is not finite, or
            positions are unknown.
    """

    sae: SAE
    values: Mapping[int, float]
    positions: Positions = "prompt_end"

    def __post_init__(self) -> None:
        if not self.values:
            raise VectorError("a clamp needs at least one feature")
        outside = [feature for feature in self.values if not 0 <= feature < self.sae.d_sae]
        if outside:
            raise VectorError(f"features {outside} are outside the SAE's 0..{self.sae.d_sae - 1}")
        if not all(map(math.isfinite, self.values.values())):
            raise VectorError("a clamp's value is a NaN or an infinity")
        check_positions(self.positions)

    @property
    def hook_point(self) -> HookPoint:
        """The SAE's own hook point."""
        return self.sae.hook_point

    def edit(self, multiplier: float) -> Edit | None:
        """Return the clamp at this strength, or None at multiplier 0 (ablation is a value of 0)."""
        if multiplier == 0:
            return None
        features = torch.tensor(list(self.values))
        values = multiplier * torch.tensor(list(self.values.values()), dtype=torch.float32)

        def clamp(x: Tensor) -> Tensor:
            before = self.sae.encode(x)
            after = before.index_copy(
                -1, features.to(before.device), values.to(before).expand(*before.shape[:-1], -1)
            )
            return x + (self.sae.decode(after) - self.sae.decode(before)).to(x)

        return clamp

    def apply(
        self, model: LanguageModel, multiplier: float = 1.0, *, prompt_length: int | None = None
    ) -> AbstractContextManager[None]:
        """Clamp inside a `with` block; see `trimtab.steering.apply.steered`."""
        return steered(model, self, multiplier, prompt_length=prompt_length)
