"""What every file of a steering vector holds, without torch, so that files open at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
