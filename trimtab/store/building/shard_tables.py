"""The tables of a shard, from what was captured of a task's batches. No model is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from trimtab.store.building.batches import Tokenised
from trimtab.store.building.capture import Captured, Encoded, Span, positions

SAMPLES = {
    "sample": pl.UInt32,
    "status": pl.String,
    "n_prompt_tokens": pl.UInt16,
    "n_positive_tokens": pl.UInt16,
    "n_negative_tokens": pl.UInt16,
    "n_truncated": pl.UInt32,
}

INFINITE = 0x7F800000  # a float32 whose exponent is all ones is infinite or no number

Tables = dict[str, pl.DataFrame]


def shard_tables(
    captured: Sequence[Captured],
    number: int,
    dropped: Sequence[Tokenised],
    texts: Mapping[int, str],
    *,
    bfloat16: bool,
) -> Tables:
    """All that is stored of a task's samples.

    Args:
        captured: the task's batches.
        number: which of their encoders this is.
        dropped: the samples that were not run.
        texts: text of each token id by itself.
        bfloat16: values are the upper 16 bits, of values that were rounded to them.
    """
    samples = list(dropped)
    parts: dict[str, list[pl.DataFrame]] = {}
    for batch in captured:
        tables, bad = _tables(batch.spans, batch.encoded[number], texts, bfloat16)
        for name, table in tables.items():
            parts.setdefault(name, []).append(table)
        samples += [replace(s, status="not_finite") if s.index in bad else s for s in batch.samples]
    return {"samples": _samples(samples), **{name: pl.concat(rows) for name, rows in parts.items()}}


def _tables(
    spans: Sequence[Span], encoded: Encoded, texts: Mapping[int, str], bfloat16: bool
) -> tuple[Tables, set[int]]:
    """One batch's tables, and the samples that are not in them: some number is not finite."""
    lengths = [len(span.ids) for span in spans]
    numbers = np.repeat(np.array([s.number for s in spans], np.uint32), lengths)
    where = positions(spans)
    ids = np.concatenate([s.ids for s in spans]).astype(np.uint32)
    completions = np.array([s.number for s in spans if s.number % 3], np.uint32)
    mean, last = encoded.residual.numpy().swapaxes(0, 1)
    tables = {
        "tokens": pl.DataFrame(
            {
                "sequence": numbers,
                "position": where.astype(np.uint16),
                "token_id": ids,
                "text": [texts[token] for token in ids.tolist()],
            }
        ),
        "residuals": pl.DataFrame({"sequence": completions, "mean": mean, "last": last}),
    }
    bad = set(numbers[~encoded.finite.numpy()] // 3)
    if encoded.nonzero is not None:
        token, feature, bits = encoded.nonzero.numpy().view(np.uint32)
        row = np.flatnonzero(where)[token]
        bad |= set(numbers[row[(bits & INFINITE) == INFINITE]] // 3)
        activations = pl.DataFrame(
            {
                "sequence": numbers[row],
                "position": where[row].astype(np.uint16),
                "feature": feature,
                "value": (bits >> 16).astype(np.uint16) if bfloat16 else bits.view(np.float32),
            }
        )
        # A number may be too small for a bfloat16; -0.0 is zero too.
        tables["activations"] = activations.filter((bits << 1) != 0)
    if bad:
        kept = ~(pl.col("sequence") // 3).is_in([int(index) for index in bad])
        tables = {name: table.filter(kept) for name, table in tables.items()}
    return tables, {int(index) for index in bad}


def _samples(samples: Sequence[Tokenised]) -> pl.DataFrame:
    counts = [{0: len(s.prompt)} | {kind: len(ids) for kind, ids in s.completions} for s in samples]
    rows = {
        "sample": [s.index for s in samples],
        "status": [s.status for s in samples],
        "n_prompt_tokens": [count[0] for count in counts],
        "n_positive_tokens": [count.get(1, 0) for count in counts],
        "n_negative_tokens": [count.get(2, 0) for count in counts],
        "n_truncated": [s.n_truncated for s in samples],
    }
    return pl.DataFrame(rows, schema=SAMPLES)
