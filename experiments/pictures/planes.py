"""Planes to draw points in: principal components, and t-SNE (van der Maaten & Hinton 2008)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

Floats = NDArray[np.float64]


def components(rows: Floats) -> Floats:
    """Return rows `(n, d)` in all of their principal components, `(n, min(n, d))`.

    Distances between rows stay as they are.
    """
    turned: Floats = PCA(svd_solver="full").fit_transform(rows)
    return turned


def tsne(turned: Floats, perplexity: float, seed: int) -> Floats:
    """Return the t-SNE plane of rows, `(n, 2)`.

    Args:
        turned: rows in their principal components, as many as distances shall be taken in.
        perplexity: neighbours that count, about; of few points a third at most.
        seed: of the descent.
    """
    most = (len(turned) - 1) / 3
    method = TSNE(perplexity=min(perplexity, most), init="pca", random_state=seed)
    plane: Floats = method.fit_transform(turned).astype(np.float64)
    return plane


def shares(rows: Floats, counts: Sequence[int]) -> Floats:
    """Return the share of the variance that the first components have, for each of `counts`."""
    centred = rows - rows.mean(0)
    gram = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred
    most = min(max(counts), len(gram))
    largest = eigvalsh(gram, subset_by_index=(len(gram) - most, len(gram) - 1))[::-1]
    cumulated: Floats = largest.cumsum() / np.trace(gram)
    return cumulated[[min(count, most) - 1 for count in counts]]
