"""`projection`: how far the vector, at its calibrated multiplier, reaches along the dense one.

It costs no forward pass beyond the calibration.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.target.ground import Ground
from trimtab.selector.target.replies import Replies
from trimtab.selector.target.surrogate import Surrogate


def surrogate(ground: Ground, _: Replies | None) -> Surrogate:
    """Return the surrogate; its effect, in units of the residual, is the same for every sample."""
    bench = ground.bench
    dense = bench.vector(ground.dense).direction

    def effects(direction: Tensor) -> NDArray[np.float64]:
        multiplier = bench.calibrate(direction).multiplier
        reached = multiplier * float(bench.vector(direction).direction @ dense)
        return np.full(len(ground.tune), reached)

    return Surrogate("projection", effects, ground.groups, lambda _: dense)
