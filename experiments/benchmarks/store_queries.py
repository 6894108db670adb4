"""How long a person waits for an answer of a store, beside a plain scan of the same Parquet files.

    python -m experiments.benchmarks.synthetic_store runs/synthetic
    python -m experiments.benchmarks.store_queries runs/synthetic --out queries.json

Both run in turn, warm, and the medians are compared. The scan is what one writes without a store:
polars over the activations' files, as lazily as it can be.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from trimtab.store import Store, open_store
from trimtab.store.reading import cache
from trimtab.store.reading.inventory import inventory

Question = Callable[[], Any]


def questions(store: Store, feature: int, sample: int, behavior: str) -> dict[str, list[Question]]:
    """Return what is asked, each of the store and, where that can be, of the files."""
    shards = store.path / "shards"
    rows = pl.scan_parquet(sorted(shards.glob("*.activations.parquet")))
    tokens = pl.scan_parquet(sorted(shards.glob("*.tokens.parquet")))
    if store.fingerprint["value_dtype"] == "bfloat16":  # positive bits order as their values do
        rows = rows.with_columns(pl.col("value").cast(pl.Float32))
    lengths = tokens.group_by("sequence").agg(n=pl.len())
    peaks = rows.filter(pl.col("feature") == feature).sort("value", descending=True)
    means = (
        rows.filter(pl.col("sequence") % 3 > 0)
        .group_by("sequence", "feature")
        .agg(pl.col("value").sum())
        .join(lengths, on="sequence")
        .group_by("feature", positive=pl.col("sequence") % 3 == 1)
        .agg((pl.col("value") / pl.col("n")).sum())
    )
    strongest = f"""SELECT feature, max(value) AS max FROM activations
        WHERE behavior = '{behavior}' AND sample_id = 'pair-{sample}'
        GROUP BY feature ORDER BY max DESC LIMIT 20"""

    def from_disk() -> None:
        cache.clear()
        store.matrix(behavior)

    return {
        "top-20 samples of a feature": [
            lambda: store.top_samples(feature),
            lambda: peaks.unique("sequence", keep="first", maintain_order=True).head(20).collect(),
        ],
        "contrast over all features": [
            lambda: store.contrast(behavior),
            lambda: means.collect(engine="streaming"),
        ],
        "strongest features of a sample": [
            lambda: store.sql(strongest),
            lambda: (
                rows.filter(pl.col("sequence") // 3 == sample)
                .group_by("feature")
                .agg(pl.col("value").max())
                .top_k(20, by="value")
                .collect()
            ),
        ],
        "strongest tokens of a feature": [
            lambda: store.top_tokens([feature]),
            lambda: (
                rows.filter(pl.col("feature") == feature)
                .join(tokens, on=["sequence", "position"])
                .group_by("text")
                .agg(pl.col("value").max())
                .top_k(10, by="value")
                .collect()
            ),
        ],
        "all tokens of a sample": [
            lambda: store.sql("FROM tokens WHERE sample_id = ?", [f"pair-{sample}"]),
            lambda: tokens.filter(pl.col("sequence") // 3 == sample).collect(),
        ],
        "all differences, from the disk": [from_disk],
        "all differences, from the cache": [lambda: store.matrix(behavior)],
    }


def median(question: Question, rounds: int) -> float:
    """Return the median time of `rounds` warm calls, in milliseconds."""
    question()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        question()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def main(
    path: Annotated[Path, typer.Argument(help="A store, for instance a synthetic one.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    feature: Annotated[int, typer.Option(help="Which feature is asked about.")] = 3,
    sample: Annotated[int, typer.Option(help="Number of the sample that is asked about.")] = 77,
    rounds: Annotated[int, typer.Option(help="Calls that are timed.")] = 9,
) -> None:
    """Time what people ask, and print it beside the time of a scan."""
    begun = time.perf_counter()
    store = open_store(path)
    opened = 1000 * (time.perf_counter() - begun)
    (behavior, *_) = store.behaviors()
    rows: list[dict[str, Any]] = [{"question": "open the store", "ms": opened}]
    for name, (asked, *scan) in questions(store, feature, sample, behavior).items():
        row: dict[str, Any] = {"question": name, "ms": median(asked, rounds)}
        if scan:
            row["scan_ms"] = median(scan[0], rounds)
            row["scan_over_store"] = row["scan_ms"] / row["ms"]
        rows.append(row)
    held = inventory(store)
    table = Table("question", "store, ms", "scan, ms", "ratio")
    for row in rows:
        cells = (row.get(key) for key in ("ms", "scan_ms", "scan_over_store"))
        table.add_row(row["question"], *("" if c is None else f"{c:.1f}" for c in cells))
    Console().print(table)
    typer.echo(f"{held['nnz']:,} activations, {held['bytes_per_nnz']:.2f} bytes each with tokens")
    if out is not None:
        out.write_text(json.dumps({"store": held, "questions": rows}, indent=1))


if __name__ == "__main__":
    typer.run(main)
