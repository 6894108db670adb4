"""Random controls: features that stand in for chosen ones, and directions."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

NEIGHBOURS = 8  # among which a stand-in is drawn


def stand_ins(
    values: ArrayLike,
    chosen: Sequence[int],
    draws: int,
    rng: np.random.Generator,
    *,
    usable: NDArray[np.bool_] | None = None,
) -> list[list[int]]:
    """Return, a draw, a stand-in for each chosen feature, in their order.

    It is drawn among the `NEIGHBOURS` nearest in value that are usable, and neither chosen nor
    drawn already; there are fewer than chosen where these run out.

    Args:
        values: what stand-ins are alike in, `(n,)`: a length, a mean, the logarithm of a rate.
        chosen: places among the n.
        draws: how many times.
        rng: draws them.
        usable: which of the n may stand in; None: all.
    """
    known = np.asarray(values, dtype=np.float64)
    found = []
    for _ in range(draws):
        free = np.ones(len(known), dtype=bool) if usable is None else usable.copy()
        free[list(chosen)] = False
        drawn: list[int] = []
        for place in chosen:
            near = np.argsort(np.abs(known - known[place]), kind="stable")
            some = near[free[near]][:NEIGHBOURS]
            if len(some):
                drawn.append(int(rng.choice(some)))
                free[drawn[-1]] = False
        found.append(drawn)
    return found


def as_frequent(
    rates: NDArray[np.float64], chosen: Sequence[int], draws: int, rng: np.random.Generator
) -> list[list[int]]:
    """Return stand-ins that fire about as often, by the shares of tokens `(d_sae,)`."""
    logs = np.log(np.maximum(rates, 1e-12))
    return stand_ins(logs, chosen, draws, rng, usable=rates > 0)


def as_strong(
    lengths: NDArray[np.floating], chosen: Sequence[int], draws: int, rng: np.random.Generator
) -> list[list[int]]:
    """Return, a draw, random features until their lengths sum to those of the chosen ones.

    What was chosen is often the longest there is, so that as many others would be weaker. Where all
    others together are, they are what is returned.

    Args:
        lengths: of what each feature adds, `(n,)`; one of length 0 is never drawn.
        chosen: places among the n.
        draws: how many times.
        rng: draws them.
    """
    total = lengths[list(chosen)].sum()
    others = np.setdiff1d(np.flatnonzero(lengths > 0), chosen)
    orders = [rng.permutation(others) for _ in range(draws)]
    return [o[: np.searchsorted(lengths[o].cumsum(), total) + 1].tolist() for o in orders]


def random_directions(width: int, draws: int, seed: int) -> list[Tensor]:
    """Return random directions, `(width,)` each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(width, generator=generator) for _ in range(draws)]
