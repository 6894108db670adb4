"""Write a selection as a folder that stands alone: vector, card, receipt and what they rest on.

| file | holds |
|---|---|
| `vector.safetensors` | the direction, before the multiplier, with what is needed to apply it |
| `strongest.safetensors` | the same of the strongest point found, where it is another |
| `card.json` | what it is, how it was chosen, what it does held out beside its controls |
| `receipt.parquet` | a row a (sample, feature): the rows sum to the vector |
| `samples.parquet` | every pair: its text, split, usefulness, and whether it was kept |
| `features.parquet` | every kept feature: coefficient, direction, description |
| `curves.parquet` | the pruning curves of samples and of features |
| `pareto.parquet` | every point that was measured: method, samples, features, effect |
| `replies.parquet` | replies to the held-out questions, of the vector and of every control |
| `judged.parquet` | what each of two judges says of every draw's replies, prompts and answers |
| `report.html` | all of it to look at |

The folder is written beside its place and moved there when it is whole.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from trimtab.selector.exploration.finalists import CONFIDENCE
from trimtab.selector.exploration.pruning import usefulness
from trimtab.selector.exploration.surface import surface_rows
from trimtab.selector.exported.described import DESCRIBED
from trimtab.selector.exported.folder import (
    CARD,
    STRONGEST_FILE,
    read_card,
    sha256,
    written_whole,
)
from trimtab.selector.exported.receipt import receipt
from trimtab.selector.intervals import Estimate
from trimtab.selector.parts import compose
from trimtab.selector.proof.controls import draws_as_good
from trimtab.selector.proof.evaluate import effect_beyond, faithfulness, rate_beyond
from trimtab.selector.proof.judged import judge_facts, judged, second_judge, second_opinion
from trimtab.selector.rankers import Evidence
from trimtab.selector.rankers.contrast import effect_sizes
from trimtab.selector.select import Selection
from trimtab.steering.formats.stored import VECTOR_FILE
from trimtab.steering.judges.judge import Judge
from trimtab.steering.vector import SteeringVector, save_vector
from trimtab.store import Store

LIBRARIES = ("torch", "transformers", "sae-lens", "duckdb", "polars", "optuna", "scikit-learn")
LABEL_TOKENS = 6  # strongest tokens that stand in for a feature's label
NAMED = 20  # features that the card names

Draw = Callable[[Path, str], object]
"""Draws a report into a folder that will have that name."""


def export_selection(
    selection: Selection, store: Store, out: Path, draw: Draw = lambda *_: None
) -> dict[str, Any]:
    """Write the folder `out` and return its card.

    `draw` adds the report to the folder, before it is in place: it is there whole or not at all.

    Raises:
        VectorError: `out` exists already; nothing is overwritten.
    """
    with written_whole(out) as part:
        second = second_judge(selection.bench, selection.material)
        tables = _tables(selection, store, second)
        for name, table in tables.items():
            table.write_parquet(part / f"{name}.parquet")
        card = _card(selection, store, tables.get("features"), _judges(selection, second, tables))
        point, positions = selection.bench.hook_point, selection.bench.positions
        vector = SteeringVector(selection.direction, point, positions)
        save_vector(vector, part / VECTOR_FILE, multiplier=card["multiplier"])
        if card["strongest"] is not None:
            strongest = SteeringVector(_strongest(selection), point, positions)
            multiplier = card["strongest"]["multiplier"]
            save_vector(strongest, part / STRONGEST_FILE, multiplier=multiplier)
        card["checksums"] = {file.name: sha256(file) for file in sorted(part.iterdir())}
        (part / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
        draw(part, out.name)
    return read_card(out)


def _tables(selection: Selection, store: Store, second: Judge) -> dict[str, pl.DataFrame]:
    outcomes = {"minimal": selection.minimal, **selection.controls}
    if selection.verdict.strongest != selection.chosen:
        outcomes["strongest"] = selection.strongest
    replies = judged(selection.bench, second, selection.held_out, outcomes)
    parts = selection.material.pools[selection.chosen.pooling]
    choice = selection.chosen.choice
    rows = receipt(parts, choice)
    given = rows.group_by("sample_id").agg(pl.col("contribution").sum())
    tables = {
        "receipt": rows,
        "samples": _samples(selection).join(given, on="sample_id", how="left"),
        "curves": _curves(selection),
        "pareto": _pareto(selection),
        "replies": _replies(selection, replies),
        "judged": replies,
    }
    if choice.features is not None:
        tables["features"] = _features(selection, store)
    return tables


def _samples(selection: Selection) -> pl.DataFrame:
    parts = selection.material.pools[selection.chosen.pooling]
    choice = selection.chosen.choice
    kept = {parts.sample_ids[i] for i in choice.samples}
    useful = usefulness(parts.residual, selection.target.gradient)
    along = torch.cosine_similarity(parts.residual, selection.target.gradient[None], dim=1)
    row = {sample_id: i for i, sample_id in enumerate(parts.sample_ids)}
    split_of = {i: name for name, ids in selection.material.splits.to_json().items() for i in ids}
    dense = choice.features is None

    def values(sample_id: str) -> dict[str, Any]:
        if sample_id not in row:
            return {"usefulness": None, "cosine_to_gradient": None, "direction": None}
        i = row[sample_id]
        wanted = dense and sample_id in kept
        return {
            "usefulness": float(useful[i]),
            "cosine_to_gradient": float(along[i]),
            "direction": parts.residual[i].tolist() if wanted else None,
        }

    return pl.DataFrame(
        [
            {
                "sample_id": sample.id,
                "group": sample.group,
                "split": split_of[sample.id],
                "kept": sample.id in kept,
                "weight": 1 / len(kept) if sample.id in kept else 0.0,
                "prompt": sample.prompt,
                "positive": sample.positive,
                "negative": sample.negative,
                **values(sample.id),
            }
            for sample in selection.material.samples
        ],
        schema_overrides={"direction": pl.List(pl.Float32)},
        infer_schema_length=None,
    )


def _features(selection: Selection, store: Store) -> pl.DataFrame:
    parts = selection.material.pools[selection.chosen.pooling]
    choice = selection.chosen.choice
    assert choice.features is not None and parts.decoder is not None and parts.features is not None
    features = list(choice.features)
    evidence = Evidence(parts, selection.target.gradient)
    vector = compose(parts, choice)
    unit = vector / vector.norm()
    coefficients = choice.coefficients or (1.0,) * len(features)
    mean = parts.features[list(choice.samples)].mean(0)
    table = pl.DataFrame(
        {
            "feature": pl.Series(features, dtype=pl.Int64),
            "coefficient": list(coefficients),
            "mean_difference": mean[features].tolist(),
            "contribution": [
                coefficient * float(mean[f]) * float(parts.decoder[f] @ unit)
                for f, coefficient in zip(features, coefficients, strict=True)
            ],
            "cohens_d": effect_sizes(evidence)[features].tolist(),
            "gradient_along": (parts.decoder[features] @ selection.target.gradient).tolist(),
            "direction": pl.Series(parts.decoder[features].tolist(), dtype=pl.List(pl.Float32)),
        }
    )
    known = _described(features, store)
    table = table.join(known, on="feature", how="left", maintain_order="left")
    return table.sort(pl.col("contribution").abs(), descending=True)


def _described(features: list[int], store: Store) -> pl.DataFrame:
    """What the store knows of features in words; its own strongest tokens where it has no more."""
    tokens: dict[int, list[str]] = {feature: [] for feature in features}
    for row in store.top_tokens(features, LABEL_TOKENS).iter_rows(named=True):
        tokens[row["feature"]].append(row["token"])
    fired = pl.DataFrame(
        {"feature": features, "fired": list(tokens.values())},
        schema={"feature": pl.Int64, "fired": pl.List(pl.String)},
    )
    known = store.descriptions(features).select(pl.col("feature").cast(pl.Int64), *DESCRIBED)
    known = known.with_columns(pl.col("tokens").list.eval(pl.element().struct.field("token")))
    table = fired.join(known, on="feature", how="left")
    stand_in = pl.when(pl.col("tokens").list.len() > 0).then("tokens").otherwise("fired")
    return table.with_columns(tokens=stand_in).drop("fired")


def _curves(selection: Selection) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"of": of, "kept": len(p.kept), "effect": p.effect, "faithfulness": p.faithfulness}
            for of, curve in (
                ("samples", selection.explored.sample_curve),
                ("features", selection.explored.feature_curve),
            )
            for p in curve
        ],
        schema={
            "of": pl.String,
            "kept": pl.Int64,
            "effect": pl.Float64,
            "faithfulness": pl.Float64,
        },
    )


def _pareto(selection: Selection) -> pl.DataFrame:
    verdict = selection.verdict
    rows = surface_rows(
        selection.explored.candidates,
        verdict.rates,
        chosen=selection.chosen,
        strongest=verdict.strongest,
    )
    return pl.DataFrame(
        rows,
        schema_overrides={"features": pl.Int64, "behavior_rate": pl.Float64},
        infer_schema_length=None,
    )


def _strongest(selection: Selection) -> Tensor:
    candidate = selection.verdict.strongest
    return compose(selection.material.pools[candidate.pooling], candidate.choice)


def _replies(selection: Selection, said: pl.DataFrame) -> pl.DataFrame:
    first = said.filter(draw=0).select("vector", "question", "reply", shown="judge")
    probability = selection.bench.classifier.probability(first["reply"].to_list())
    return first.with_columns(probability=pl.Series(probability, dtype=pl.Float64))


def _judges(
    selection: Selection, second: Judge, tables: Mapping[str, pl.DataFrame]
) -> dict[str, Any]:
    return {
        **judge_facts(selection.bench.judge, tables["judged"]),
        "second": second_opinion(second, tables["judged"]),
    }


CONTROLS = (
    "unsteered",
    "dense_mean_difference",
    "full_sae",
    "random_samples",
    "same_features",
    "random_features",
    "random_dictionary",
    "random_direction",
    "lexical",
    "prompting",
)
WHY_ABSENT = {
    "full_sae": "the run had no SAE",
    "same_features": "the vector is not made of features",
    "random_features": "the vector is not made of features",
    "random_dictionary": "the vector is not made of features",
    "lexical": "no pair's first words differ between the sides",
    "prompting": "no sample could be shown as an example",
}


def _card(
    selection: Selection,
    store: Store,
    features: pl.DataFrame | None,
    judges: Mapping[str, Any],
) -> dict[str, Any]:
    bench, held_out = selection.bench, selection.held_out
    parts = selection.material.pools[selection.chosen.pooling]
    choice = selection.chosen.choice
    minimal, controls = selection.minimal, selection.controls
    full = controls["dense_mean_difference"]
    margin_kept, rate_kept = faithfulness(minimal, full, controls["unsteered"], held_out.groups)
    assert minimal.calibration is not None
    scale = float(selection.direction.norm())  # the bench measured the unit vector
    fired = 0 if parts.features is None else int((parts.features.abs().sum(0) > 0).sum())
    return {
        "behavior": selection.behavior,
        "model": store.fingerprint["model"],
        "sae": store.fingerprint["sae"],
        "hook_point": str(bench.hook_point),
        "layer_convention": "layers count from 0, embeddings not counted",
        "operation": "add",
        "positions": bench.positions,
        "pooling": selection.chosen.pooling,
        "multiplier": minimal.calibration.multiplier / scale,
        "unit_of_strength": "times the stored vector",
        "norm": scale,
        "damage": {
            "budget": selection.settings.budget,
            "kl_mean": minimal.calibration.damage.mean,
            "kl_p95": minimal.calibration.damage.p95,
            "unit": "KL(steered || base), nats per token of neutral text",
            "curve": [{"multiplier": m / scale, "kl_mean": kl} for m, kl in selection.damage_curve],
        },
        "samples": {"kept": len(choice.samples), "of": parts.n_samples},
        "features": {
            "kept": None if choice.features is None else len(choice.features),
            "of": fired or None,
            **({} if features is None else {"largest": _largest(features)}),
        },
        "held_out": {
            **minimal.to_json(held_out.groups),
            "faithfulness": margin_kept.to_json(),
            "faithfulness_behavior_rate": rate_kept.to_json(),
            "n_pairs": len(held_out.groups),
            "n_questions": len(held_out.questions),
        },
        "controls": {
            name: (
                controls[name].to_json(held_out.groups)
                if name in controls
                else {key: _absent(name, selection) for key in ("effect", "behavior_rate", "nats")}
            )
            for name in CONTROLS
        },
        "behavior_rate_beyond": {
            name: rate_beyond(minimal, control).to_json() for name, control in controls.items()
        },
        "effect_beyond": {
            name: effect_beyond(minimal, control, held_out.groups).to_json()
            for name, control in controls.items()
        },
        "dense_beyond_unsteered": rate_beyond(full, controls["unsteered"]).to_json(),
        "draws_as_good": {
            name: draws_as_good(minimal, control)
            for name, control in controls.items()
            if control.draws > 1
        },
        "strongest": _strongest_card(selection),
        "anti_steerable_fraction": selection.anti_steerable,
        "target": selection.target.to_json(),
        "learning_curve": selection.learning.to_json(),
        "finalists": selection.verdict.rows,
        "choice": {
            "confidence": CONFIDENCE,
            "tolerance": selection.settings.tolerance,
            "prompts": selection.verdict.n_prompts,
        },
        "cost": {method: asdict(cost) for method, cost in selection.explored.cost.items()},
        "judge": judges,
        "settings": asdict(selection.settings),
        "splits": selection.material.splits.to_json(),
        "measured": {
            "tune": [sample.id for sample in selection.material.tune],
            "report": [sample.id for sample in selection.material.report],
            "prompts": [asked[-1]["content"] for asked in selection.material.prompts],
            "questions_left_out": list(selection.material.questions_seen),
        },
        "seeds": dict.fromkeys(("split", "panel", "search", "controls"), selection.settings.seed)
        | {"bootstrap": 0},
        "data_sha256": _data_hash(selection),
        "fingerprint": dict(store.fingerprint),
        "store_content": store.content_hash,
        "versions": {name: version(name) for name in ("trimtab", *LIBRARIES)},
        "seconds": round(selection.seconds, 1),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _strongest_card(selection: Selection) -> dict[str, Any] | None:
    """What the strongest finalist is made of and does held out; None where it is the exported."""
    candidate, outcome = selection.verdict.strongest, selection.strongest
    if candidate == selection.chosen:
        return None
    parts, groups = selection.material.pools[candidate.pooling], selection.held_out.groups
    full = selection.controls["dense_mean_difference"]
    assert outcome.calibration is not None
    choice = candidate.choice
    return {
        "origin": candidate.origin,
        "pooling": candidate.pooling,
        "samples": [parts.sample_ids[i] for i in choice.samples],
        "features": choice.features,
        "coefficients": choice.coefficients,
        "multiplier": outcome.calibration.multiplier / float(_strongest(selection).norm()),
        **outcome.to_json(groups),
        "behavior_rate_beyond_dense": rate_beyond(outcome, full).to_json(),
        "effect_beyond_dense": effect_beyond(outcome, full, groups).to_json(),
    }


def _largest(features: pl.DataFrame) -> list[dict[str, Any]]:
    """The features that give the vector most of its length, by name."""
    columns = ("feature", "contribution", "label", "label_source")
    return features.head(NAMED).select(columns).to_dicts()


def _absent(control: str, selection: Selection) -> Mapping[str, Any]:
    reason = selection.absent.get(control) or WHY_ABSENT[control]
    return Estimate(None, reason=reason).to_json()


def _data_hash(selection: Selection) -> str:
    hashes = "\n".join(sample.content_hash() for sample in selection.material.samples)
    return hashlib.sha256(hashes.encode()).hexdigest()
