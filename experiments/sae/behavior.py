"""What SAEs are worth for steering: their vectors beside the dense one, at equal damage.

    python -m experiments.sae.behavior runs/sae/a runs/sae/b --out runs/behavior

1. Once a behaviour: the split by group, the activations that are encoded, the gradient, the
   unsteered model and the dense vector (see `experiments.sae.yardstick`).
2. Per SAE its vectors: the mean difference of the pairs to select through all of its features, and
   through the best 20, and through 20 at random. No choice sees the pairs to report.
3. Every vector is scaled to the same damage; then its margin effect on the pairs to report and its
   behaviour rate on the open questions are measured.

Each measurement is journaled under the hash of the SAE's weights: an interrupted run resumes, and
an SAE that is added later costs only itself. `experiments.sae.behavior_table` draws the results.
"""

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
import typer
from torch import Tensor

from experiments.record import flat, say, write_results
from experiments.sae.behavior_table import TABLE, draw
from experiments.sae.yardstick import BUDGET, MAX_NEW_TOKENS, Found, Yardstick, packaged
from trimtab.errors import SelectionError, VectorError
from trimtab.model.language_model import load_model
from trimtab.model.sae import SAE, load_sae
from trimtab.selector.exploration.ranked import choose_features
from trimtab.selector.intervals import Estimate, ratio_estimate
from trimtab.selector.journal import Journal
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.proof.evaluate import Outcome, effect_beyond, rate_beyond
from trimtab.steering.damage import Damage

DAMAGE_TEXTS = 24  # 768 tokens; measured two or three times a vector

VECTORS: dict[str, tuple[str, int | None]] = {
    "full": ("norm", None),
    "best 20": ("influence", 20),
    "random 20": ("random", 20),
}
"""An SAE's vectors: which ranker chooses their features, and how many. Without a limit, every
feature whose mean differs is in. As many at random, among those that fire, are the control."""

ESTIMATES = ("effect", "effect_share", "effect_beyond_dense", "rate", "rate_beyond_dense")
SCHEMA: dict[str, Any] = {
    "sae": pl.String,  # null for the unsteered model and the dense vector
    "sae_sha256": pl.String,
    "behavior": pl.String,
    "vector": pl.String,
    "n_features": pl.Int64,
    "cosine": pl.Float64,  # to the dense vector
    "explained": pl.Float64,  # 1 - |dense - vector|^2 / |dense|^2
    "multiplier": pl.Float64,  # of the vector at unit length
    "kl": pl.Float64,
    **{name + end: pl.Float64 for name in ESTIMATES for end in ("", "_low", "_high")},
    "classifier": pl.String,
    "classifier_accuracy": pl.Float64,
    "reason": pl.String,  # why nothing was measured
    "cpu_seconds": pl.Float64,
    "features": pl.List(pl.Int64),  # best first
    "effects": pl.List(pl.Float64),
    "shown": pl.List(pl.Float64),
    "replies": pl.List(pl.String),
}

Row = dict[str, Any]


def choose(parts: Parts, gradient: Tensor, vector: str) -> Choice | None:
    """Return the features of one of `VECTORS`; None where none differs between the sides."""
    ranker, count = VECTORS[vector]
    assert parts.decoder is not None
    return choose_features(
        parts,
        tuple(range(parts.n_samples)),
        gradient,
        ranker=ranker,
        count=count or len(parts.decoder),
        coefficients="mean",
    )


def compare(
    yardstick: Yardstick,
    saes: Sequence[SAE],
    journal: Journal,
    say: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Return a row for the unsteered model, the dense vector and each vector of each SAE.

    Raises:
        VectorError: the dense vector cannot be brought to the damage budget.
    """

    def once(sae: SAE | None, what: str, measure: Callable[[], Any]) -> Any:
        whose = None if sae is None else sae.fingerprint()["sae_sha256"]
        say(f"{yardstick.behavior}: {what}{'' if sae is None else f' of {sae.spec}'}")
        return journal.once((yardstick.behavior, yardstick.sha256, whose, what), measure)

    unsteered = once(None, "unsteered", lambda: _timed(yardstick.measure_unsteered))
    dense = once(None, "dense", lambda: _timed(partial(_measure_dense, yardstick)))
    gradient = torch.tensor(once(None, "gradient", lambda: yardstick.gradient.tolist()))
    beside = _outcome(dense)
    rows = [
        _row(yardstick, None, "unsteered", unsteered, None),
        _row(yardstick, None, "dense", dense, None),
    ]
    for sae in saes:
        parts = cache(partial(yardstick.parts, sae))
        for vector in VECTORS:
            measure = partial(
                _measure_vector, yardstick, parts, gradient, vector, dense["multiplier"]
            )
            found = once(sae, vector, partial(_timed, measure))
            rows.append(_row(yardstick, sae, vector, found, beside))
    return rows


def _measure_dense(yardstick: Yardstick) -> Found:
    return yardstick.measure(yardstick.dense, start=0.1 * yardstick.damage.residual_norm)


def _measure_vector(
    yardstick: Yardstick,
    parts: Callable[[], Parts],
    gradient: Tensor,
    vector: str,
    start: float,
) -> Found:
    choice = choose(parts(), gradient, vector)
    if choice is None:
        return {"reason": "no feature differs between the sides"}
    try:
        found = yardstick.measure(compose(parts(), choice), start=start)
    except VectorError as error:
        found = {"reason": str(error)}
    return {"features": choice.features, **found}


def _timed(measure: Callable[[], Found]) -> Found:
    begun = time.process_time()
    return {**measure(), "cpu_seconds": time.process_time() - begun}


def _outcome(found: Found) -> Outcome:
    effects, shown = (np.array(found[name])[:, None] for name in ("effects", "shown"))
    return Outcome(effects, shown, None, tuple(found["replies"]))


def _row(
    yardstick: Yardstick,
    sae: SAE | None,
    vector: str,
    found: Found,
    dense: Outcome | None,
) -> Row:
    """Return a row of `SCHEMA`; what is compared to the dense vector's outcome only beside it."""
    estimates: dict[str, Estimate] = {}
    if "reason" not in found:
        outcome, groups = _outcome(found), yardstick.groups
        estimates |= {"effect": outcome.effect(groups), "rate": outcome.behavior_rate()}
        if dense is not None:
            part, whole = outcome.effects[:, 0], dense.effects[:, 0]
            estimates |= {
                "effect_share": ratio_estimate(part, whole, groups, what="the dense effect"),
                "effect_beyond_dense": effect_beyond(outcome, dense, groups),
                "rate_beyond_dense": rate_beyond(outcome, dense),
            }
    row: Row = dict.fromkeys(SCHEMA) | found | {"behavior": yardstick.behavior, "vector": vector}
    if sae is not None:
        row |= {"sae": sae.spec, "sae_sha256": sae.fingerprint()["sae_sha256"]}
    if row["features"] is not None:
        row["n_features"] = len(row["features"])
    return row | flat(estimates)


def write(rows: Sequence[Row], file: Path) -> None:
    """Write the rows as Parquet, after those of an earlier run that they do not replace."""
    table = pl.DataFrame(rows, schema=SCHEMA)
    if file.exists():
        same = ["behavior", "sae_sha256"]
        earlier = pl.read_parquet(file).join(table, on=same, how="anti", nulls_equal=True)
        table = pl.concat([earlier, table])
    table.write_parquet(file)


def main(
    saes: Annotated[list[str], typer.Argument(metavar="SAE_FOLDER...", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the results; SAEs can be added later.")],
    model: Annotated[str | None, typer.Option(help="As in `trimtab build`.")] = None,
    behaviors: Annotated[
        str, typer.Option(help="Packaged behaviours; a minus before one steers away from it.")
    ] = "refusal,-tone,formality,imagery",
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 0,
) -> None:
    """Measure SAEs by what their vectors do, beside the dense vector."""
    loaded = load_model(model, dtype="float32")
    candidates = [sae for spec in saes if (sae := load_sae(spec, loaded)) is not None]
    hook_points = {sae.hook_point for sae in candidates}
    if len(hook_points) != 1:
        found = ", ".join(sorted(map(str, hook_points))) or "none"
        raise SelectionError(
            f"SAEs are compared at one hook point, these have {found}; call once for each, with "
            "its own --out"
        )
    hook_point = hook_points.pop()
    settings = {
        **loaded.fingerprint(),
        "hook_point": str(hook_point),
        "seed": seed,
        "budget": BUDGET,
        "damage_texts": DAMAGE_TEXTS,
        "max_new_tokens": MAX_NEW_TOKENS,
    }
    journal = Journal(out / "journal.jsonl", settings)
    damage = Damage(loaded, hook_point, max_texts=DAMAGE_TEXTS)
    for name in behaviors.split(","):
        yardstick = packaged(name.strip(), seed, model=loaded, hook_point=hook_point, damage=damage)
        write(compare(yardstick, candidates, journal, say), out / TABLE)
    config = {
        "settings": settings,
        "behaviors": behaviors,
        "saes": {sae.spec: sae.fingerprint()["sae_sha256"] for sae in candidates},
    }
    write_results(out, {}, config)
    draw(out)


if __name__ == "__main__":
    typer.run(main)
