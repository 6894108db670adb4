"""Write an explanation as a folder that stands alone.

| file | holds |
|---|---|
| `card.json` | what the vector is, what it breaks, what it does beside its controls |
| `decomposition.parquet` | how much of it each number of features explains, by way of choosing |
| `features.parquet` | its features: step of the pursuit, coefficient, shift, description |
| `replies.parquet` | replies to the held-out questions, of the vector and of every control |
| `report.html` | all of it to look at |
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from trimtab.selector.explanation.decomposition import SIZES
from trimtab.selector.explanation.effects import Effects
from trimtab.selector.explanation.explain import Explanation
from trimtab.selector.exported.described import DESCRIBED, descriptions_of
from trimtab.selector.exported.folder import CARD, EXPLANATION, sha256, written_whole

NAMED = 20  # features that the card names
LIBRARIES = ("torch", "transformers")


def tables_of(explanation: Explanation) -> dict[str, pl.DataFrame]:
    """Return the tables, by name: those that there is something to put into."""
    tables = {}
    if explanation.decomposition is not None:
        rows = [asdict(row) for row in explanation.decomposition.explained]
        tables["decomposition"] = pl.DataFrame(rows)
        tables["features"] = _features(explanation)
    if explanation.effects is not None:
        tables["replies"] = _replies(explanation.effects)
    return tables


def card_of(
    explanation: Explanation, file: Path, tables: dict[str, pl.DataFrame]
) -> dict[str, Any]:
    """Return all that was found, as plain JSON; `file` is where the vector lay."""
    vector, found = explanation.vector, explanation.calibration
    own = explanation.own_damage
    card: dict[str, Any] = {
        "kind": EXPLANATION,
        "file": file.name,
        "sha256": sha256(file) if file.is_file() else None,
        "model": explanation.model.name,
        "sae": "none" if explanation.sae is None else explanation.sae.spec,
        "hook_point": str(vector.hook_point),
        "positions": vector.positions,
        "norm": vector.norm,
        "residual_norm": explanation.residual_norm,
        "multiplier": found.multiplier,
        "damage": {
            "budget": explanation.budget,
            "kl_mean": found.damage.mean,
            "kl_p95": found.damage.p95,
            "unit": "KL(steered || base), nats per token of neutral text",
            "curve": [{"multiplier": m, "kl_mean": kl} for m, kl in found.curve],
            "at_own_strength": {
                "multiplier": explanation.strength, "kl_mean": own.mean, "kl_p95": own.p95,
            },
        },
        "decomposition": tables["decomposition"].to_dicts() if "decomposition" in tables else None,
        "largest": _largest(tables["features"]) if "features" in tables else None,
        "behavior": None if explanation.against is None else explanation.against.behavior,
        **({} if explanation.effects is None else explanation.effects.to_json()),
        "left_out": explanation.left_out,
        "seed": explanation.seed,
        "splits": None if explanation.material is None else explanation.material.splits.to_json(),
        "fingerprint": explanation.model.fingerprint(),
        "versions": {name: version(name) for name in LIBRARIES},
        "seconds": round(explanation.seconds, 1),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    return card


def write_explanation(
    card: dict[str, Any],
    tables: dict[str, pl.DataFrame],
    out: Path,
    draw: Callable[[Path], object] = lambda *_: None,
) -> None:
    """Write the folder `out`; `draw` adds its report, before the folder is in place.

    Raises:
        VectorError: `out` exists already; nothing is overwritten.
    """
    with written_whole(out) as part:
        for name, table in tables.items():
            table.write_parquet(part / f"{name}.parquet")
        (part / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
        draw(part)


def _replies(found: Effects) -> pl.DataFrame:
    """A row a (vector, question): the reply to it, and how the judge takes it."""
    questions = [messages[-1]["content"] for messages in found.held_out.questions]
    return pl.DataFrame(
        [
            {
                "vector": name,
                "question": question,
                "reply": reply,
                "shown": bool(shown),
                "probability": float(p),
            }
            for name, outcome in found.outcomes.items()
            for question, reply, shown, p in zip(
                questions,
                outcome.replies,
                outcome.shown[:, 0],
                found.bench.classifier.probability(outcome.replies),
                strict=True,
            )
        ],
        schema={
            "vector": pl.String,
            "question": pl.String,
            "reply": pl.String,
            "shown": pl.Boolean,
            "probability": pl.Float64,
        },
    )


def _features(explanation: Explanation) -> pl.DataFrame:
    """A row a feature that the pursuit took or that the SAE sees move most.

    `share` is what the feature adds to the explained part of the squared length: over the pursuit's
    features it sums to the cosine's square at the last size.
    """
    decomposition, sae = explanation.decomposition, explanation.sae
    assert decomposition is not None and sae is not None
    decoder = sae.W_dec.detach().float().cpu()
    direction = explanation.vector.direction
    along = decoder @ direction / (direction @ direction)
    step = {feature: i for i, feature in enumerate(decomposition.pursued, start=1)}
    coefficient = dict(zip(decomposition.pursued, decomposition.coefficients.tolist(), strict=True))
    shift = decomposition.shift
    moved = (shift.abs() * decoder.norm(dim=1)).argsort(descending=True)[: max(SIZES)].tolist()
    seen = [feature for feature in moved if shift[feature] != 0]
    features = list(dict.fromkeys([*decomposition.pursued, *seen]))
    table = pl.DataFrame(
        [
            {
                "feature": feature,
                "step": step.get(feature),
                "coefficient": coefficient.get(feature),
                "share": coefficient[feature] * float(along[feature]) if feature in step else None,
                "shift": float(shift[feature]),
            }
            for feature in features
        ],
        schema={
            "feature": pl.Int64,
            "step": pl.Int64,
            "coefficient": pl.Float64,
            "share": pl.Float64,
            "shift": pl.Float64,
        },
    )
    store = None if explanation.against is None else explanation.against.store
    known = descriptions_of(sae.spec, store).select(pl.col("feature").cast(pl.Int64), *DESCRIBED)
    known = known.with_columns(pl.col("tokens").list.eval(pl.element().struct.field("token")))
    return table.join(known, on="feature", how="left", maintain_order="left")


def _largest(features: pl.DataFrame) -> list[dict[str, Any]]:
    columns = ("feature", "step", "coefficient", "share", "shift", "label", "label_source")
    return features.head(NAMED).select(columns).to_dicts()
