"""Can a pair's usefulness be predicted from its features alone? On pairs and behaviours never seen.

    trimtab build runs/several a.jsonl b.jsonl c.jsonl
    python -m experiments.learned_selection runs/several --out runs/learned

Every behaviour's usefulness is measured once; then models that saw none of a pair's group, and
models that saw none of its behaviour, predict it. Beside the rank correlations stand the effects of
the vectors of the best k pairs and of k random ones, at equal damage on pairs that had no part in
either. Each measurement is journaled.
"""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.selector.journal import Journal
from trimtab.selector.learned.judge import (
    predictions,
    predictions_across,
    rank_correlation,
    top_against_random,
)
from trimtab.selector.learned.model import WAYS
from trimtab.selector.learned.training import measure_training
from trimtab.selector.loading import load_for
from trimtab.selector.scales import scales_of
from trimtab.store import Store, open_store

BUDGET = 0.1  # nats per token


def study(store: Store, out: Path, *, seed: int = 0) -> dict[str, Any]:
    """Measure and predict every behaviour of a store; return what is written to `results.json`."""
    model, sae = load_for(store)
    settings = {"store": store.content_hash, "seed": seed, "budget": BUDGET}
    journal = Journal(out / "journal.jsonl", settings)
    scales, make_margin = scales_of(store, model, journal, BUDGET)
    measured = {}
    for behavior in store.behaviors():
        typer.echo(f"how useful the pairs of {behavior} are", err=True)
        measured[behavior] = measure_training(store, sae, behavior, scales, make_margin, seed=seed)
    trainings = {behavior: one.training for behavior, one in measured.items()}
    rows = []
    for way in WAYS:
        unseen = predictions_across(trainings, way)
        for behavior, one in measured.items():
            training = one.training
            k = max(4, len(training) // 8)
            for seen, predicted in (
                ("other pairs", predictions(training, way)),
                ("other behaviours", unseen[behavior]),
            ):
                typer.echo(f"{behavior}: {way}, from {seen}", err=True)
                correlation = rank_correlation(predicted, training.usefulness, training.groups)
                top = top_against_random(
                    training.parts, predicted, k, one.effects, one.groups, seed=seed
                )
                rows.append(
                    {
                        "behavior": behavior,
                        "way": way,
                        "learnt_from": seen,
                        "n": len(training),
                        "spearman": correlation.to_json(),
                        "top": top.to_json(),
                    }
                )
    results = {
        "settings": settings,
        "rows": rows,
        "model": model.fingerprint(),
        "versions": {name: version(name) for name in ("torch", "transformers", "scikit-learn")},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def main(
    store: Annotated[Path, typer.Argument(help="A store of several behaviours.")],
    out: Annotated[Path, typer.Option(help="Folder of results; resumed where it exists.")],
    seed: Annotated[int, typer.Option(help="Of splits and random choices.")] = 0,
) -> None:
    """Study learned selection over a store's behaviours."""
    for row in study(open_store(store), out, seed=seed)["rows"]:
        spearman, beyond = row["spearman"], row["top"]["beyond"]
        typer.echo(
            f"{row['behavior']:>14} {row['way']:>8} from {row['learnt_from']:<16} "
            f"rho {_written(spearman)}  best {row['top']['k']} beyond random {_written(beyond)}"
        )


def _written(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None or estimate["low"] is None:
        return str(estimate.get("reason"))
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


if __name__ == "__main__":
    typer.run(main)
