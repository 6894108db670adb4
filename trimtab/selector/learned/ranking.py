"""A pool in the order of predicted usefulness, with what speaks for and against each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from trimtab.pairs.readers.pool import Prospect
from trimtab.selector.exported.described import descriptions_of
from trimtab.selector.learned.model import Fitted, Way, fit, ranks
from trimtab.selector.learned.validation import Kind, Training
from trimtab.selector.learned.views import COSINE, STATISTICS, View, view, view_against
from trimtab.selector.parts import Parts
from trimtab.store import Store

REASONS = 3  # that a prediction names


def rank(
    training: Training,
    parts: Parts,
    prospects: Sequence[Prospect],
    kind: Kind,
    way: Way,
    store: Store,
) -> list[dict[str, Any]]:
    """Predict how useful prospects are; return a row each.

    Args:
        training: measured pairs, seen as the prospects are.
        parts: the prospects' rows.
        prospects: in that order.
        kind: how they are seen.
        way: which model is fitted.
        store: names the features.
    """
    model = fit(view(training.parts, training.groups), ranks(training.usefulness), way)
    seen = view_against(parts, training.parts)
    predicted = np.clip(model.predict(seen) + 0.5, 0.0, 1.0)
    why = _reasons(model, seen, way, store)
    return [
        {
            "id": one.id,
            "kind": kind,
            "usefulness": float(predicted[i]),
            "why": why[i],
            "prompt": one.prompt,
            "positive": one.positive,
            "negative": one.negative,
            "group_key": one.group_key,
        }
        for i, one in enumerate(prospects)
    ]


def _reasons(model: Fitted, seen: View, way: Way, store: Store) -> list[str]:
    """Name what adds most to each prediction, of either sign: statistics, and features by label."""
    of_statistics, of_features = model.contributions(seen)
    labels: dict[int, str] = {}
    if store.fingerprint["sae"] != "none":
        known = descriptions_of(store.fingerprint["sae"], store)
        labels = dict(known.select("feature", "label").iter_rows())
    names = {i: name for i, name in enumerate(STATISTICS) if way == "learned" or i == COSINE}
    reasons = []
    for row in range(len(seen)):
        parts = [(float(of_statistics[row, i]), name) for i, name in names.items()]
        if labels:
            strongest = np.argsort(-np.abs(of_features[row]), kind="stable")[:REASONS]
            parts += [
                (float(of_features[row, j]), f"feature {j} “{labels.get(int(j), '')}”")
                for j in strongest
            ]
        largest = sorted((p for p in parts if p[0]), key=lambda part: -abs(part[0]))[:REASONS]
        reasons.append("; ".join(f"{name} ({added:+.2f})" for added, name in largest))
    return reasons


def table_of(rows: Sequence[dict[str, Any]], stored: set[str]) -> pl.DataFrame:
    """Order the pool; `stored` is whether the store has the prompt already."""
    ranked = sorted(rows, key=lambda row: -row["usefulness"])
    return pl.DataFrame(
        [
            {
                "rank": rank,
                **{key: value for key, value in row.items() if key != "group_key"},
                "stored": row["group_key"] in stored,
            }
            for rank, row in enumerate(ranked, start=1)
        ],
        infer_schema_length=None,
    )
