"""What the catalog keeps of the activations: pooled by sequence, and the strongest tokens.

Activations lie in their shards by feature, sequence and position, and a sample lies in one shard
whole. So one pass over runs of equal rows is enough, a few features at a time: no table of all
activations is ever held.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from trimtab.errors import StoreError

ROWS = 1 << 20
"""Activations that are held at once, about; all of one feature in one shard are."""

TOP_TOKENS = 5

POOLED = {
    "sequence": pl.UInt32,
    "feature": pl.UInt32,
    "mean": pl.Float32,
    "last": pl.Float32,
    "max": pl.Float32,
    "n_active": pl.UInt16,
    "peak": pl.UInt16,
}
FEATURES = {
    "feature": pl.UInt32,
    "n_active": pl.UInt64,
    "n_samples": pl.UInt64,
    "max": pl.Float32,
    "total": pl.Float64,
}
STRONGEST = {"feature": pl.UInt32, "text": pl.String, "value": pl.Float32}


class Summary(NamedTuple):
    """What is kept of some whole features of one shard.

    Attributes:
        pooled: a row for each sequence in which a feature is active, by feature and sequence: the
            mean over all its tokens, the value at its last token, the maximum, how many tokens are
            active, and the position of the maximum, the first of equal ones.
        features: a row a feature: active tokens, samples, maximum and sum of the values.
        strongest: the token texts on which each feature gets strongest, `TOP_TOKENS` at most.
    """

    pooled: pl.DataFrame
    features: pl.DataFrame
    strongest: pl.DataFrame


def summaries(activations: Path, tokens: Path) -> Iterator[Summary]:
    """Summarise one shard's activations, some whole features at a time.

    Raises `StoreError` where one of them is at no token.
    """
    table = pl.read_parquet(tokens).sort("sequence", "position")
    lengths = table.group_by("sequence").agg(n=pl.len(), last=pl.col("position").max())
    for rows in _whole_features(activations):
        values = _decoded(rows["value"].to_numpy())
        at = _token_rows(rows, table)
        if at is None:
            raise StoreError(f"{activations} holds activations where {tokens} has no token")
        pooled = _pooled(rows, values, lengths)
        yield Summary(
            pooled, _features(pooled, values), _strongest(rows, values, table["text"], at)
        )


def _whole_features(activations: Path) -> Iterator[pl.DataFrame]:
    from pyarrow.parquet import ParquetFile

    rest = pl.DataFrame()
    with ParquetFile(activations) as file:
        for batch in file.iter_batches(ROWS):
            rows = pl.concat([rest, pl.DataFrame(batch)]) if rest.height else pl.DataFrame(batch)
            end = rows["feature"].search_sorted(rows["feature"][-1])  # the last one may go on
            if end:
                yield rows[:end]
            rest = rows[end:]
    if rest.height:
        yield rest


def _decoded(stored: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Bits of a bfloat16 are the upper half of a float32."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32, copy=False)


def _pooled(
    rows: pl.DataFrame, values: npt.NDArray[np.float32], lengths: pl.DataFrame
) -> pl.DataFrame:
    sequence, feature = rows["sequence"].to_numpy(), rows["feature"].to_numpy()
    position = rows["position"].to_numpy()
    start = _starts(sequence, feature)
    count = np.diff(start, append=len(sequence))
    end = start + count - 1
    strongest = np.maximum.reduceat(values, start)
    at_peak = np.where(values == np.repeat(strongest, count), position, np.iinfo(np.uint16).max)
    known = pl.DataFrame({"sequence": sequence[start]}).join(
        lengths, on="sequence", how="left", maintain_order="left"
    )
    total = np.add.reduceat(values, start, dtype=np.float64)
    at_last = position[end] == known["last"].to_numpy()
    columns = {
        "sequence": sequence[start],
        "feature": feature[start],
        "mean": (total / known["n"].to_numpy()).astype(np.float32),
        "last": np.where(at_last, values[end], np.float32(0)),
        "max": strongest,
        "n_active": count.astype(np.uint16),
        "peak": np.minimum.reduceat(at_peak, start).astype(np.uint16),
    }
    return pl.DataFrame(columns, schema=POOLED)


def _features(pooled: pl.DataFrame, values: npt.NDArray[np.float32]) -> pl.DataFrame:
    feature = pooled["feature"].to_numpy()
    n_active = pooled["n_active"].to_numpy().astype(np.uint64)
    start = _starts(feature)
    samples = _starts(pooled["sequence"].to_numpy() // 3, feature)  # a sample has up to 3 sequences
    tokens = np.add.reduceat(n_active, start)
    first = np.concatenate([[0], np.cumsum(tokens)[:-1]]).astype(np.int64)
    columns = {
        "feature": feature[start],
        "n_active": tokens,
        "n_samples": np.diff(np.searchsorted(samples, start), append=len(samples)),
        "max": np.maximum.reduceat(pooled["max"].to_numpy(), start),
        "total": np.add.reduceat(values, first, dtype=np.float64),
    }
    return pl.DataFrame(columns, schema=FEATURES)


def _strongest(
    rows: pl.DataFrame,
    values: npt.NDArray[np.float32],
    texts: pl.Series,
    at: npt.NDArray[np.int64],
) -> pl.DataFrame:
    # A text among the strongest of all shards is among the strongest of the shard where it is so.
    names = texts.unique().sort()
    numbers = pl.DataFrame({"text": names, "number": np.arange(len(names), dtype=np.uint64)})
    number = texts.to_frame("text").join(numbers, on="text", how="left", maintain_order="left")
    pair = rows["feature"].to_numpy().astype(np.uint64) * np.uint64(len(names))
    pair += number["number"].to_numpy()[at]
    order = np.argsort(pair, kind="stable")
    start = _starts(pair[order])
    feature, code = np.divmod(pair[order][start], np.uint64(len(names)))
    strongest = np.maximum.reduceat(values[order], start)
    order = np.argsort((feature << 32) | _falling(strongest), kind="stable")  # equals: by text
    first = _starts(feature[order])
    rank = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    top = order[rank < TOP_TOKENS]
    columns = {"feature": feature[top], "text": names.gather(code[top]), "value": strongest[top]}
    return pl.DataFrame(columns, schema_overrides=STRONGEST)


def _falling(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Integers that fall as the values rise: sorted by one integer is five times as fast."""
    bits = values.view(np.uint32)
    rising = bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return (~rising).astype(np.uint64)


def _token_rows(rows: pl.DataFrame, tokens: pl.DataFrame) -> npt.NDArray[np.int64] | None:
    """Row of `tokens`, sorted, of each activation; None where one has none."""
    sequence, position = tokens["sequence"].to_numpy(), tokens["position"].to_numpy()
    wanted, inner = rows["sequence"].to_numpy(), rows["position"].to_numpy()
    start = _starts(sequence)
    offset = np.full(max(sequence.max(), wanted.max()) + 1 - sequence.min(), -1, np.int64)
    offset[sequence[start] - sequence.min()] = start - position[start]  # positions have no gaps
    at: npt.NDArray[np.int64] = offset[wanted - sequence.min()] + inner
    known = (at >= 0) & (at < len(sequence))
    if not known.all() or (sequence[at] != wanted).any() or (position[at] != inner).any():
        return None
    return at


def _starts(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Indices where a run of rows begins that are equal in all columns."""
    changed = np.ones(len(columns[0]), bool)
    changed[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.flatnonzero(changed)
