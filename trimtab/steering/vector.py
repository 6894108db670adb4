"""A steering vector: a direction that is added to the residual stream at one hook point."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.steering.apply import Edit, steered
from trimtab.steering.formats import safetensors
from trimtab.steering.formats.stored import VECTOR_FILE, StoredVector
from trimtab.steering.positions import Positions, check_positions


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A direction `(d_model,)`, kept in float32, and where it is added.

    `multiplier` times the direction is added to the activations at `hook_point`. Vectors of the
    same hook point and positions form a vector space: `a + b`, `a - b`, `2.0 * a`, `-a`.

    Raises:
        VectorError: the direction is not one-dimensional, not finite, or positions are unknown.
    """

    direction: Tensor
    hook_point: HookPoint
    positions: Positions = "prompt_end"

    def __post_init__(self) -> None:
        direction = self.direction.detach().to(torch.float32)
        if direction.ndim != 1:
            raise VectorError(
                f"a direction must have one dimension, not shape {tuple(direction.shape)}"
            )
        if not bool(torch.isfinite(direction).all()):
            raise VectorError("the direction holds a NaN or an infinity")
        check_positions(self.positions)
        object.__setattr__(self, "direction", direction)

    def edit(self, multiplier: float) -> Edit | None:
        """Return `x -> x + multiplier * direction`, or None at multiplier 0."""
        if multiplier == 0:
            return None
        shift = multiplier * self.direction

        def add(x: Tensor) -> Tensor:
            if x.shape[-1] != len(shift):
                raise VectorError(_misfit(len(shift), f"the residual stream has {x.shape[-1]}"))
            return x + shift.to(x)

        return add

    def apply(
        self, model: LanguageModel, multiplier: float = 1.0, *, prompt_length: int | None = None
    ) -> AbstractContextManager[None]:
        """Steer `model` inside a `with` block; see `trimtab.steering.apply.steered`.

        Raises:
            VectorError: the direction's width is not the model's.
        """
        self.check(model)
        return steered(model, self, multiplier, prompt_length=prompt_length)

    def check(self, model: LanguageModel) -> None:
        """Raise VectorError where the direction's width is not the model's."""
        if self.direction.shape[0] != model.d_model:
            raise VectorError(
                _misfit(len(self.direction), f"model {model.name} has {model.d_model}")
            )

    @property
    def norm(self) -> float:
        """Length of the direction, in the units of the residual stream."""
        return float(self.direction.norm())

    def __add__(self, other: "SteeringVector") -> "SteeringVector":
        if (self.hook_point, self.positions) != (other.hook_point, other.positions):
            raise VectorError(
                f"cannot add a vector at {other.hook_point} ({other.positions}) to one at "
                f"{self.hook_point} ({self.positions}); apply them one inside the other instead"
            )
        return replace(self, direction=self.direction + other.direction)

    def __mul__(self, factor: float) -> "SteeringVector":
        return replace(self, direction=factor * self.direction)

    __rmul__ = __mul__

    def __neg__(self) -> "SteeringVector":
        return self * -1.0

    def __sub__(self, other: "SteeringVector") -> "SteeringVector":
        return self + -other


def _misfit(width: int, there: str) -> str:
    return f"the vector has width {width}, {there}: it was made for another model"


def save_vector(vector: SteeringVector, path: str | Path, *, multiplier: float = 1.0) -> None:
    """Write a vector as safetensors, with the multiplier that it should be used at."""
    direction = vector.direction.cpu().contiguous().numpy()
    safetensors.write(
        StoredVector(direction, vector.hook_point, vector.positions, multiplier), Path(path)
    )


def load_vector(path: str | Path) -> tuple[SteeringVector, float]:
    """Return a vector and its calibrated multiplier, from an exported folder or a file of one.

    Raises:
        VectorError: nothing there can be read as a steering vector.
    """
    path = Path(path)
    stored = safetensors.read(path / VECTOR_FILE if path.is_dir() else path)
    vector = SteeringVector(
        torch.from_numpy(stored.direction.copy()), stored.hook_point, stored.positions
    )
    return vector, stored.multiplier
