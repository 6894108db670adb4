"""Scores as tables that people read: with texts and labels, intervals and verdicts.

| column | holds |
|---|---|
| `score` | what the full vector's effect owes to the part, nats per token |
| `low`, `high` | its 95 % interval; null where the estimator measures nothing |
| `verdict` | `helps` or `hurts` where the interval is clear of zero, else `unclear` |
"""

from collections.abc import Callable, Sequence

import polars as pl
import torch

from trimtab.selector.attribution import Unit
from trimtab.selector.verdicts.scores import Scores, interval
from trimtab.store import Store


def samples(found: Sequence[Scores], store: Store, behavior: str) -> pl.DataFrame:
    """Return a row a sample, with its texts."""
    frames = []
    for one in found:
        low, high = one.bounds()
        frames.append(
            pl.DataFrame(
                {
                    "sample_id": one.half.parts.sample_ids,
                    "score": one.mean.tolist(),
                    "low": low.tolist(),
                    "high": high.tolist(),
                    "half": one.half.name,
                }
            )
        )
    texts = pl.DataFrame(
        [
            {
                "sample_id": sample.id,
                "group": sample.group,
                "prompt": sample.prompt,
                "positive": sample.positive,
                "negative": sample.negative,
            }
            for sample in store.samples(behavior)
        ],
        infer_schema_length=None,
    )
    return _judged(pl.concat(frames).join(texts, on="sample_id", how="left"))


def features(found: Sequence[Scores], store: Store, _behavior: str) -> pl.DataFrame:
    """Return a row a feature that differs in either half: it plays in both, and its scores average.

    `share` is the score over the mean effect of the two full SAE vectors.
    """
    mean = torch.stack([one.mean for one in found]).mean(0)
    error = torch.stack([one.error for one in found]).square().sum(0).sqrt() / len(found)
    low, high = interval(mean, error, min(one.folds for one in found))
    played = torch.stack([one.mean != 0 for one in found]).any(0).nonzero().flatten()
    effect = sum(one.effect.value or 0.0 for one in found) / len(found)
    share = (mean[played] / effect).tolist() if effect > 0 else [None] * len(played)
    table = pl.DataFrame(
        {
            "feature": pl.Series(played.tolist(), dtype=pl.Int64),
            "score": mean[played].tolist(),
            "low": low[played].tolist(),
            "high": high[played].tolist(),
            "share": pl.Series(share, dtype=pl.Float64),
        }
    )
    return _judged(_labelled(table, store))


def cells(found: Sequence[Scores], store: Store, _behavior: str) -> pl.DataFrame:
    """Return a row a (sample, feature) in which the sample's two sides differ."""
    frames = []
    for one in found:
        assert one.half.parts.features is not None
        low, high = one.bounds()
        row, feature = one.half.parts.features.nonzero(as_tuple=True)
        ids = one.half.parts.sample_ids
        frames.append(
            pl.DataFrame(
                {
                    "sample_id": [ids[i] for i in row.tolist()],
                    "feature": pl.Series(feature.tolist(), dtype=pl.Int64),
                    "score": one.mean[row, feature].tolist(),
                    "low": low[row, feature].tolist(),
                    "high": high[row, feature].tolist(),
                }
            )
        )
    return _judged(_labelled(pl.concat(frames), store))


TABLES: dict[Unit, Callable[[Sequence[Scores], Store, str], pl.DataFrame]] = {
    "samples": samples,
    "features": features,
    "cells": cells,
}


def _judged(table: pl.DataFrame) -> pl.DataFrame:
    """Add the verdict, and order by the score; an interval that is not known is null."""
    bounds = [pl.col(name).fill_nan(None) for name in ("low", "high")]
    verdict = (
        pl.when(pl.col("low") > 0)
        .then(pl.lit("helps"))
        .when(pl.col("high") < 0)
        .then(pl.lit("hurts"))
        .otherwise(pl.lit("unclear"))
    )
    return table.with_columns(bounds).with_columns(verdict=verdict).sort("score", descending=True)


def _labelled(table: pl.DataFrame, store: Store) -> pl.DataFrame:
    known = store.descriptions().select(pl.col("feature").cast(pl.Int64), "label")
    return table.join(known, on="feature", how="left")
