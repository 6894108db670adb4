"""Random subsets and what their vectors do: the truth that attributions are judged by."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.errors import SelectionError


def draw_subsets(k: int, size: int, count: int, seed: int) -> NDArray[np.bool_]:
    """Return `count` random subsets of `size` out of `k` as masks `(count, k)`.

    Raises:
        SelectionError: a subset would hold nothing, or more than there is.
    """
    if not 1 <= size <= k:
        raise SelectionError(f"a subset of {size} out of {k} cannot be drawn")
    ranks = np.random.default_rng(seed).random((count, k)).argsort(axis=1).argsort(axis=1)
    masks: NDArray[np.bool_] = ranks < size
    return masks


def measured_effects(
    vectors: Sequence[Tensor] | Tensor, effects: Callable[[Tensor], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return what each vector does to each pair, `(m, n_pairs)`.

    Args:
        vectors: `(m, d_model)`, as they are added.
        effects: every pair's effect under an added vector, `(n_pairs,)`; journal it, and an
            interrupted measurement resumes.
    """
    return np.stack([effects(vector) for vector in vectors])
