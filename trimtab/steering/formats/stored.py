"""What every file of a steering vector holds, without torch, so that files open at once."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.steering.positions import Positions

VECTOR_FILE = "vector.safetensors"  # in the folder of an exported vector


@dataclass(frozen=True, eq=False)
class StoredVector:
    """A direction `(d_model,)` float32 before its calibrated multiplier, and where it acts."""

    direction: NDArray[np.float32]
    hook_point: HookPoint
    positions: Positions
    multiplier: float = 1.0

    def checked(self, path: Path) -> "StoredVector":
        """Return the vector itself, which was read from `path`.

        Raises:
            VectorError: the direction is not one of float32 numbers, or a number is not finite.
        """
        direction = self.direction
        if direction.ndim != 1 or direction.dtype != np.float32:
            raise VectorError(
                f"{path} holds {direction.dtype} of shape {direction.shape} as its direction, not "
                "one row of float32: it was changed since it was written"
            )
        if not (np.isfinite(direction).all() and isfinite(self.multiplier)):
            raise VectorError(f"{path} holds a NaN or an infinity; it is damaged")
        return self
