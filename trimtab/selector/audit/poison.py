"""Poison put into clean pairs on purpose, to see whether an attribution finds it again.

- `flip`: a pair's sides are swapped. Its difference is the negative of the clean one.
- `shuffle`: completions are mismatched: a pair's positive is contrasted with another's negative.
  The mean of all differences stays what it was, so a mean difference is immune to it.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.selector.parts import Parts

Victims = NDArray[np.int64]


def draw_victims(n: int, share: float, seed: int) -> Victims:
    """Return which samples are poisoned, sorted; at least one of `n`.

    Raises:
        SelectionError: the share is not above 0 and below a half, where poison is poison still.
    """
    if not 0 < share < 0.5:
        raise SelectionError(f"a share of {share} cannot be poisoned; take one between 0 and 0.5")
    drawn = np.random.default_rng(seed).choice(n, size=max(1, round(share * n)), replace=False)
    return np.sort(drawn).astype(np.int64)


def flip(parts: Parts, victims: Victims) -> Parts:
    """Return the parts with the victims' sides swapped."""
    signs = torch.ones(parts.n_samples, 1)
    signs[torch.from_numpy(victims)] = -1.0
    features = None if parts.features is None else signs * parts.features
    return replace(parts, residual=signs * parts.residual, features=features)


def shuffle(parts: Parts, negative: Tensor, victims: Victims) -> Parts:
    """Return dense parts whose victims' negatives went round by one place among the victims.

    A completion keeps the activations that it has after its own prompt.

    Args:
        parts: the clean ones.
        negative: pooled residual of every sample's negative side, `(n, d_model)`.
        victims: two or more.
    """
    if len(victims) < 2:
        raise SelectionError("mismatching completions takes at least two pairs")
    residual = parts.residual.clone()
    residual[victims] += negative[victims] - negative[np.roll(victims, 1)]
    return Parts(parts.sample_ids, residual)


def suspects(scores: Tensor, count: int) -> Victims:
    """Return the `count` samples with the lowest scores `(n,)`, sorted."""
    return np.sort(scores.argsort(stable=True)[:count].numpy())


def recall(scores: Tensor, victims: Victims) -> float:
    """Return the share of the victims among as many suspects: recall, and precision, at k."""
    found = np.isin(victims, suspects(scores, len(victims)))
    return float(found.mean())


def without(parts: Parts, dropped: Victims) -> Tensor:
    """Return the mean difference of the samples that are left, `(d_model,)`."""
    kept = np.setdiff1d(np.arange(parts.n_samples), dropped)
    return parts.rows(kept.tolist()).residual.double().mean(0).float()
