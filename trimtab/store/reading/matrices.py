"""Differences of pooled activations, sample by sample, as tensors for a search."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import duckdb
import numpy as np
import numpy.typing as npt

from trimtab.errors import StoreError
from trimtab.store.fingerprint import digest
from trimtab.store.reading import cache
from trimtab.store.reading.sandbox import query

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["mean", "last", "max"]

BLOCKS = 4
"""So many blocks of columns would fit into the budget at once."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Differences:
    """Rows `i` that contrast sample `sample_ids[i]`, float32.

    A pair's row is positive less negative. A signed unpaired text's row is
    `sign * (pooled - mean over all texts) * n / n_side`, so that in both cases the mean over the
    rows is the mean of the positives less the mean of the negatives.

    Attributes:
        sample_ids: samples of status "ok", in the store's order; the others are left out.
        features: `(n, k)`; None without SAE.
        residual: `(n, d_model)`, of the hook point's activation itself. Under pooling "max" its
            rows are means: a maximum per coordinate means nothing there.
        feature_ids: the features that the k columns are; those that are left out are zero in every
            row, or were not asked for.
    """

    sample_ids: list[str]
    features: "Tensor | None"
    residual: "Tensor"
    feature_ids: Sequence[int]

    def select(self, features: Sequence[int]) -> "Differences":
        """The same rows with only these columns of `features`, in this order."""
        if self.features is None:
            raise StoreError("this store was built without an SAE, so it has no features to select")
        column = {feature: index for index, feature in enumerate(self.feature_ids)}
        if outside := [feature for feature in features if feature not in column]:
            raise StoreError(f"features {outside[:5]} are not among these {len(column)} columns")
        chosen = self.features[:, [column[feature] for feature in features]]
        return Differences(self.sample_ids, chosen, self.residual, list(features))


class Source(NamedTuple):
    """Where matrices are read: an open catalog, the hash of its content, the fingerprint."""

    catalog: duckdb.DuckDBPyConnection
    content_hash: str
    fields: Mapping[str, str]

    @property
    def d_sae(self) -> int:
        """Number of features; 0 without SAE."""
        return int(self.fields["d_sae"])

    @property
    def d_model(self) -> int:
        """Size of the residual."""
        return int(self.fields["d_model"])


class _Rows(NamedTuple):
    ids: list[str]
    numbers: npt.NDArray[np.int64]  # of the samples, ascending
    sides: npt.NDArray[np.bool_]  # (n, 2): whether there is a positive, a negative
    weights: Floats  # (n, 1)

    def n_bytes(self, n_columns: int) -> int:
        return 4 * len(self.ids) * n_columns


def matrix(
    source: Source,
    behavior: str,
    pooling: Pooling,
    device: str,
    features: Sequence[int] | None = None,
) -> Differences:
    """One behaviour's differences, from the cache or else from the disk, and then cached.

    All features are columns where they fit into the device's budget as the disk is read. Otherwise
    those that fire in this behaviour are, or those that were asked for.

    Raises:
        StoreError: no usable sample has this behaviour, it mixes pairs and unpaired texts, its
            texts are all on one side, the pooling or a feature does not exist, or the matrix does
            not fit into the budget.
    """
    d_sae = source.d_sae
    outside = [feature for feature in features or () if not 0 <= feature < d_sae]
    if d_sae and outside:
        raise StoreError(f"features {outside[:5]} do not exist: they run from 0 to {d_sae - 1}")
    rows_of: cache.Key = (digest(source.fields), source.content_hash, behavior, pooling)
    whole = cache.find(device, (*rows_of, "all"))
    if whole is None and features is None:
        whole = cache.find(device, (*rows_of, "firing"))
    if whole is None:
        rows = _rows(source, behavior, pooling)
        columns: Sequence[int] = range(d_sae)
        key: cache.Key = (*rows_of, "all")
        budget = cache.budget(device)
        if rows.n_bytes(d_sae + source.d_model) > budget:
            columns = _firing(source, behavior) if features is None else sorted(set(features))
            key = (*rows_of, "firing") if features is None else (*rows_of, *columns)
        n_bytes = rows.n_bytes(len(columns) + source.d_model)
        if n_bytes > budget:
            raise StoreError(
                f"{n_bytes:,} bytes of differences do not fit into the budget of {device},"
                f" {budget:,} bytes; name fewer features, go through `Store.blocks`, or raise it"
                " with `trimtab.store.reading.cache.set_budget`"
            )
        whole = cache.keep(
            device, key, n_bytes, lambda: _differences(source, rows, pooling, columns, device)
        )
    return whole if features is None else whole.select(features)


def blocks(source: Source, behavior: str, pooling: Pooling, device: str) -> Iterator[Differences]:
    """One behaviour's differences, all rows and a few of the firing features at a time, uncached.

    Raises `StoreError` as `matrix` does, but for the budget.
    """
    rows = _rows(source, behavior, pooling)
    firing = _firing(source, behavior)
    width = max(1, cache.budget(device) // BLOCKS // rows.n_bytes(1))
    for start in range(0, max(len(firing), 1), width):
        yield _differences(source, rows, pooling, firing[start : start + width], device)


def _rows(source: Source, behavior: str, pooling: str) -> _Rows:
    if pooling not in get_args(Pooling):
        raise StoreError(f"unknown pooling {pooling!r}; choose from {', '.join(get_args(Pooling))}")
    samples = query(
        source.catalog,
        "SELECT sample, id, positive IS NOT NULL AS positive, negative IS NOT NULL AS negative"
        " FROM data.samples WHERE behavior = ? AND status = 'ok' ORDER BY sample",
        [behavior],
    )
    if samples.is_empty():
        raise StoreError(f"the store holds no usable sample of behaviour {behavior!r}")
    sides = samples.select("positive", "negative").to_numpy()
    return _Rows(
        samples["id"].to_list(),
        samples["sample"].to_numpy().astype(np.int64),
        sides,
        _weights(sides, behavior),
    )


def _firing(source: Source, behavior: str) -> list[int]:
    """Features that are active in a completion of this behaviour, ascending."""
    found = query(
        source.catalog,
        "SELECT DISTINCT feature FROM data.pooled JOIN data.sequences USING (sequence)"
        " WHERE behavior = ? AND side <> 'prompt' ORDER BY feature",
        [behavior],
    )
    features: list[int] = found["feature"].to_list()
    return features


def _differences(
    source: Source, rows: _Rows, pooling: str, columns: Sequence[int], device: str
) -> Differences:
    import torch

    residual = np.zeros((len(rows.ids), source.d_model), np.float32)
    stored = query(
        source.catalog,
        f"SELECT sequence, {'last' if pooling == 'last' else 'mean'} AS value FROM data.residuals"
        " WHERE sequence // 3 IN (SELECT unnest($samples::UINTEGER[])) ORDER BY sequence",
        {"samples": rows.numbers.tolist()},
    )
    row, sign = _placed(rows, stored["sequence"].to_numpy())
    values = stored["value"].to_numpy()
    for side in (1, -1):  # a pair has one row of each: none is added to twice at once
        residual[row[sign == side]] += side * values[sign == side]

    features = None
    if source.d_sae:
        features = np.zeros((len(rows.ids), len(columns)), np.float32)
        column = np.zeros(source.d_sae, np.int64)
        column[columns] = np.arange(len(columns))
        everything = len(columns) == source.d_sae
        stored = query(
            source.catalog,
            f"SELECT sequence, feature, {pooling} AS value FROM data.pooled"
            " WHERE sequence // 3 IN (SELECT unnest($samples::UINTEGER[])) AND sequence % 3 > 0"
            " AND ($everything OR feature IN (SELECT unnest($features::UINTEGER[])))",
            {
                "samples": rows.numbers.tolist(),
                "everything": everything,
                "features": [] if everything else list(columns),
            },
        )
        row, sign = _placed(rows, stored["sequence"].to_numpy())
        feature, values = stored["feature"].to_numpy(), stored["value"].to_numpy()
        for side in (1, -1):
            here = sign == side
            features[row[here], column[feature[here]]] += side * values[here]
        features = _centred(features, rows.sides) * rows.weights
    return Differences(
        rows.ids,
        None if features is None else torch.from_numpy(features).to(device),
        torch.from_numpy(_centred(residual, rows.sides) * rows.weights).to(device),
        columns if features is not None else range(0),
    )


def _placed(
    rows: _Rows, sequences: npt.NDArray[np.uint32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row of each sequence, and its sign: 1 for a positive, -1 for a negative."""
    numbers = sequences.astype(np.int64)
    return np.searchsorted(rows.numbers, numbers // 3), np.where(numbers % 3 == 1, 1, -1)


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
