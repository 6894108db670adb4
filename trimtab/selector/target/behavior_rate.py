"""`behavior_rate`: the truth itself, for runs that can afford to generate for every candidate."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.target.ground import Ground
from trimtab.selector.target.surrogate import Surrogate


def guided(ground: Ground, guide: Surrogate) -> Surrogate:
    """Return what a direction adds to the unsteered behaviour rate on the prompts of `tune`.

    Rates have no gradient; that of `guide`, the best surrogate, stands in.
    """

    def effects(direction: Tensor) -> NDArray[np.float64]:
        added: NDArray[np.float64] = ground.shown(direction) - ground.shown(None).astype(float)
        return added

    return Surrogate("behavior_rate", effects, ground.prompt_groups, guide.gradient)
