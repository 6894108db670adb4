"""A store in the shape of Neuronpedia's exports: JSONL, gzipped, a batch a file.

`features/` says how often and how strongly each feature fires, `activations/` where it is
strongest, `explanations/` its label. Only fields that the store knows are written. A feature's key
is (`modelId`, `layer`, `index`); the first two are the store's own names, since the SAE may not be
on Neuronpedia. `notes` says where a label comes from.

A text is a stored sequence by itself, a prompt or a completion. Tokens without a value have 0.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from trimtab.store.labels.described import sae_hook_point
from trimtab.store.store import Store

BATCH = 512  # features a file, and in memory at once
TOP = 20  # texts of each feature

Row = dict[str, Any]

_STRONGEST = """
strongest AS (
    SELECT behavior, sample_id, side, feature, max FROM pooled
    WHERE feature BETWEEN $first AND $last
    QUALIFY row_number() OVER
        (PARTITION BY feature ORDER BY max DESC, behavior, sample_id, side) <= $top)"""

_VALUES = f"""
WITH {_STRONGEST}
SELECT feature, behavior, sample_id, side, any_value(max) AS max,
    list(position ORDER BY position) AS positions, list(value ORDER BY position) AS active
FROM activations JOIN strongest USING (behavior, sample_id, side, feature)
WHERE feature BETWEEN $first AND $last
GROUP BY ALL ORDER BY feature, max DESC, behavior, sample_id, side"""

_TEXTS = f"""
WITH {_STRONGEST}
SELECT behavior, sample_id, side, min(position) AS start, list(text ORDER BY position) AS tokens
FROM tokens SEMI JOIN strongest USING (behavior, sample_id, side) GROUP BY ALL"""


def write(store: Store, folder: Path) -> None:
    """Write `features/`, `activations/` and `explanations/` of a store into `folder`."""
    described = store.descriptions()
    labels = described.filter(pl.col("label").str.strip_chars() != "")
    promoted = described.select("feature", "promotes", "suppresses")
    n_features = int(store.fingerprint["d_sae"])
    for number, first in enumerate(range(0, n_features, BATCH)):
        last = min(first + BATCH, n_features) - 1
        here = pl.col("feature").is_between(first, last)
        file = f"batch-{number}.jsonl.gz"
        facts = _facts(store, first, last).join(promoted, on="feature", how="left")
        _write(folder / "features" / file, _features(store, facts.sort("feature")))
        _write(folder / "activations" / file, _activations(store, first, last))
        _write(folder / "explanations" / file, _explanations(store, labels.filter(here)))


def _key(store: Store, feature: int) -> Row:
    layer = sae_hook_point(store).split(".")[1]
    sae = Path(store.fingerprint["sae"]).name
    model = Path(store.fingerprint["model"]).name
    return {"modelId": model, "layer": f"{layer}-{sae}", "index": str(feature)}


def _facts(store: Store, first: int, last: int) -> pl.DataFrame:
    facts = "SELECT feature, firing_rate, max FROM features WHERE feature BETWEEN ? AND ?"
    return store.sql(facts, [first, last])


def _features(store: Store, facts: pl.DataFrame) -> Iterator[Row]:
    for row in facts.iter_rows(named=True):
        yield {
            **_key(store, row["feature"]),
            "maxActApprox": row["max"],
            "frac_nonzero": row["firing_rate"],
            **({"pos_str": row["promotes"]} if row["promotes"] else {}),
            **({"neg_str": row["suppresses"]} if row["suppresses"] else {}),
            "hookName": sae_hook_point(store),
        }


def _activations(store: Store, first: int, last: int) -> Iterator[Row]:
    params = {"first": first, "last": last, "top": TOP}
    place = ("behavior", "sample_id", "side")
    texts = {
        tuple(row[name] for name in place): row
        for row in store.sql(_TEXTS, params).iter_rows(named=True)
    }
    for row in store.sql(_VALUES, params).iter_rows(named=True):
        text = texts[tuple(row[name] for name in place)]
        values = [0.0] * len(text["tokens"])
        for position, value in zip(row["positions"], row["active"], strict=True):
            values[position - text["start"]] = value
        yield {
            **_key(store, row["feature"]),
            "tokens": text["tokens"],
            "values": values,
            "maxValue": max(values),
            "maxValueTokenIndex": values.index(max(values)),
            "minValue": min(values),
            "dataIndex": f"{row['sample_id']}/{row['side']}",
            "dataSource": row["behavior"],
        }


def _explanations(store: Store, labels: pl.DataFrame) -> Iterator[Row]:
    for row in labels.iter_rows(named=True):
        yield {
            **_key(store, row["feature"]),
            "description": row["label"],
            "notes": row["label_source"],
        }


def _write(file: Path, rows: Iterable[Row]) -> None:
    """Write rows, the same bytes for the same rows; no file where there are none."""
    lines = (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    first = next(lines, None)
    if first is None:
        return
    file.parent.mkdir(exist_ok=True)
    with file.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped:
        zipped.write(first)
        zipped.writelines(lines)
