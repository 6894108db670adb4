"""Differences of pooled activations, sample by sample, as tensors for a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from trimtab.errors import StoreError
from trimtab.store.catalog import CATALOG
from trimtab.store.sandbox import query

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["mean", "last", "max"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Differences:
    """Rows `i` that contrast sample `sample_ids[i]`, float32.

    A pair's row is positive less negative. A signed unpaired text's row is
    `sign * (pooled - mean over all texts) * n / n_side`, so that in both cases the mean over the
    rows is the mean of the positives less the mean of the negatives.

    Attributes:
        sample_ids: samples of status "ok", in the store's order; the others are left out.
        features: `(n, d_sae)`, or `(n, k)` where k features were asked for; None without SAE.
        residual: `(n, d_model)`, of the hook point's activation itself.
    """

    sample_ids: list[str]
    features: "Tensor | None"
    residual: "Tensor"

    def select(self, features: Sequence[int]) -> "Differences":
        """The same rows with only these columns of `features`, in this order."""
        if self.features is None:
            raise StoreError("this store was built without an SAE, so it has no features to select")
        d_sae = self.features.shape[1]
        if outside := [feature for feature in features if not 0 <= feature < d_sae]:
            raise StoreError(f"features {outside[:5]} do not exist: they run from 0 to {d_sae - 1}")
        return Differences(self.sample_ids, self.features[:, list(features)], self.residual)


def differences(
    path: Path, behavior: str, *, pooling: Pooling, d_model: int, d_sae: int, device: str
) -> Differences:
    """Read one behaviour's differences from the catalog of the store at `path`.

    Under pooling "max" the residual rows are means: a maximum per coordinate means nothing there.

    Raises:
        StoreError: no usable sample has this behaviour, it mixes pairs and unpaired texts, its
            texts are all on one side, or the pooling does not exist.
    """
    import torch

    if pooling not in get_args(Pooling):
        raise StoreError(f"pooling {pooling!r} does not exist: {', '.join(get_args(Pooling))}")
    samples = query(
        path / CATALOG,
        "SELECT sample, id, positive IS NOT NULL AS positive, negative IS NOT NULL AS negative"
        " FROM data.samples WHERE behavior = ? AND status = 'ok' ORDER BY sample",
        [behavior],
    )
    if samples.is_empty():
        raise StoreError(f"{path} holds no usable sample of behaviour {behavior!r}")
    numbers = samples["sample"].to_numpy().astype(np.int64)
    sides = samples.select("positive", "negative").to_numpy()
    weights = _weights(sides, behavior)

    residual = np.zeros((len(numbers), d_model), np.float32)
    pooled = query(
        path / CATALOG,
        f"SELECT sequence, {'last' if pooling == 'last' else 'mean'} AS value FROM data.residuals"
        " SEMI JOIN (SELECT sample FROM data.samples WHERE behavior = ? AND status = 'ok')"
        " ON sample = sequence // 3 ORDER BY sequence",
        [behavior],
    )
    sequences = pooled["sequence"].to_numpy().astype(np.int64)
    rows, signs = np.searchsorted(numbers, sequences // 3), _signs(sequences)
    values = pooled["value"].to_numpy()
    for sign in (1, -1):
        residual[rows[signs == sign]] += sign * values[signs == sign]
    residual = _centred(residual, sides) * weights

    features = None
    if d_sae:
        features = np.zeros((len(numbers), d_sae), np.float32)
        for sign, kind in ((1, 1), (-1, 2)):
            sparse = query(
                path / CATALOG,
                f"SELECT sequence // 3 AS sample, feature, {pooling} AS value FROM data.pooled"
                " SEMI JOIN (SELECT sample FROM data.samples WHERE behavior = ?)"
                " ON sample = sequence // 3 WHERE sequence % 3 = ?",
                [behavior, kind],
            )
            rows = np.searchsorted(numbers, sparse["sample"].to_numpy().astype(np.int64))
            features[rows, sparse["feature"].to_numpy()] += sign * sparse["value"].to_numpy()
        features = _centred(features, sides) * weights
    return Differences(
        samples["id"].to_list(),
        None if features is None else torch.from_numpy(features).to(device),
        torch.from_numpy(residual).to(device),
    )


def _signs(sequences: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.where(sequences % 3 == 1, 1, -1)


def _weights(sides: npt.NDArray[np.bool_], behavior: str) -> Floats:
    """Weight of each row `(n, 1)`: one for pairs, n / n_side for unpaired texts."""
    paired = sides.all(axis=1)
    if paired.all():
        return np.ones((len(sides), 1), np.float32)
    if paired.any():
        raise StoreError(
            f"behaviour {behavior!r} mixes {paired.sum()} pairs with {(~paired).sum()} unpaired"
            " texts; give the two kinds different behaviour names and build again"
        )
    counts = sides.sum(axis=0)
    if not counts.all():
        missing = "positive" if counts[0] == 0 else "negative"
        raise StoreError(f"behaviour {behavior!r} has no {missing} text to contrast with")
    side = np.where(sides[:, 0], counts[0], counts[1])
    weights: Floats = (len(sides) / side).astype(np.float32)[:, None]
    return weights


def _centred(signed: Floats, sides: npt.NDArray[np.bool_]) -> Floats:
    """Rows `sign * pooled` of unpaired texts become `sign * (pooled - mean over all texts)`."""
    if sides.all():
        return signed
    signs = np.where(sides[:, 0], 1, -1).astype(np.float32)[:, None]
    pooled = signed * signs
    centre = pooled.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred: Floats = signs * (pooled - centre)
    return centred
