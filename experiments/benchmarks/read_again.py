"""Reading what is stored of samples, against running them through model and SAE again.

    python -m experiments.benchmarks.read_again --samples 64 --out read_again.json

Both give the same numbers, which is checked: token ids, pooled residuals and every activation that
is not zero. The model is loaded already, and the store is open.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import polars as pl
import torch
import typer

from experiments.benchmarks.build_overhead import bare, batches
from trimtab.model.language_model import load_model
from trimtab.model.sae import load_sae
from trimtab.pairs import load_packaged
from trimtab.store import Store, build
from trimtab.store.checks.recompute import recompute

TABLES = ("tokens", "residuals", "activations")


def read(store: Store, ids: list[str]) -> dict[str, pl.DataFrame]:
    """All that is stored of some samples."""
    return {
        table: store.sql(f"FROM {table} WHERE list_contains(?, sample_id)", [ids])
        for table in TABLES
    }


def main(
    behavior: Annotated[str, typer.Option(help="A packaged contrast set.")] = "formality",
    samples: Annotated[int, typer.Option(help="Pairs.")] = 64,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Print the median times, one sample at a time and all at once, and their ratios."""
    model = load_model(dtype="float32", device="cpu")
    sae = load_sae("default", model)
    assert sae is not None
    pairs = load_packaged(behavior)[:samples]
    with tempfile.TemporaryDirectory() as folder:
        store = build(Path(folder) / "store", pairs, model, sae, progress=False)
        agreed = recompute(store, samples, model, sae)
        assert not agreed.problems
        times: dict[str, list[float]] = {"read": [], "run": [], "read all": [], "run all": []}
        read(store, [pairs[0].id])
        bare(model, sae, batches(pairs[:1], model, 4096))
        for pair in pairs:
            begun = time.perf_counter()
            read(store, [pair.id])
            times["read"].append(time.perf_counter() - begun)
            times["run"].append(bare(model, sae, batches([pair], model, 4096)))
        work = batches(pairs, model, 4096)
        for _ in range(3):
            begun = time.perf_counter()
            read(store, [pair.id for pair in pairs])
            times["read all"].append(time.perf_counter() - begun)
            times["run all"].append(bare(model, sae, work))
    medians = {name: statistics.median(found) for name, found in times.items()}
    result = {
        "threads": torch.get_num_threads(),
        "samples": len(pairs),
        "seconds": medians,
        "run_over_read": medians["run"] / medians["read"],
        "run_over_read_all": medians["run all"] / medians["read all"],
        "largest_difference": agreed.activations,
    }
    typer.echo(json.dumps(result, indent=1))
    if out is not None:
        out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
