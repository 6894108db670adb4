"""Draw what `experiments.sae.behavior` measured, from its Parquet: no model, no torch.

python -m experiments.sae.behavior_table runs/behavior
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from trimtab.errors import SelectionError
from trimtab.selector.intervals import mean_estimate

TABLE = "behavior.parquet"
WIDTH = 150  # where the output is no terminal

Row = dict[str, Any]


def draw(out: Path, console: Console | None = None) -> None:
    """Print every measurement of a folder, and a summary over behaviours.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    if not (out / TABLE).exists():
        raise SelectionError(f"{out} has no {TABLE}; `experiments.sae.behavior` writes it")
    measured = pl.read_parquet(out / TABLE).sort("sae", maintain_order=True)  # null first
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
    for (behavior,), rows in measured.group_by("behavior", maintain_order=True):
        console.print(_measurements(str(behavior), rows))
    console.print(_summary(measured))


def _measurements(behavior: str, rows: pl.DataFrame) -> Table:
    """One line a vector."""
    judge = rows.filter(pl.col("vector") == "unsteered").row(0, named=True)
    accuracy = f"{judge['classifier']}, accuracy {judge['classifier_accuracy']:.2f}"
    table = _table(f"{behavior}, judged by {accuracy}; all vectors at the same damage")
    for name in ("features", "cosine", "explained"):
        table.add_column(name, justify="right")
    for name in ("margin effect", "of dense", "behaviour rate", "less dense"):
        table.add_column(name, no_wrap=True)
    for row in rows.iter_rows(named=True):
        table.add_row(row["sae"] or "–", row["vector"], *_cells(row))
    unmeasured = rows.filter(pl.col("reason").is_not_null()).iter_rows(named=True)
    reasons = [f"{row['vector']} of {row['sae']}: {row['reason']}" for row in unmeasured]
    table.caption = "\n".join(reasons) or None
    return table


def _cells(row: Row) -> list[str]:
    return [
        _number(row["n_features"], "d"),
        _number(row["cosine"]),
        _number(row["explained"]),
        *(_interval(row, n) for n in ("effect", "effect_share", "rate", "rate_beyond_dense")),
    ]


def _summary(measured: pl.DataFrame) -> Table:
    """One line a vector of an SAE, over the behaviours on which it was measured."""
    table = _table("over behaviours: means, and the rate over all questions less the dense one")
    for name in ("behaviours", "cosine", "explained", "effect of dense"):
        table.add_column(name, justify="right")
    table.add_column("rate less dense", no_wrap=True)
    dense = {
        row["behavior"]: row["shown"]
        for row in measured.filter(pl.col("vector") == "dense").iter_rows(named=True)
    }
    vectors = measured.filter(pl.col("sae").is_not_null() & pl.col("reason").is_null())
    for (sae, vector), rows in vectors.group_by("sae", "vector", maintain_order=True):
        more = np.concatenate(
            [np.subtract(r["shown"], dense[r["behavior"]]) for r in rows.iter_rows(named=True)]
        )
        beyond = mean_estimate(more, [str(i) for i in range(len(more))])
        means = (rows[name].mean() for name in ("cosine", "explained", "effect_share"))
        table.add_row(
            str(sae),
            str(vector),
            str(len(rows)),
            *(_number(mean) for mean in means),
            _interval({"": beyond.value, "_low": beyond.low, "_high": beyond.high}, ""),
        )
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("SAE", overflow="fold")
    table.add_column("vector", no_wrap=True)
    return table


def _number(value: Any, form: str = ".2f") -> str:
    return "" if value is None else f"{value:{form}}".replace("-", "−")


def _interval(row: Row, name: str) -> str:
    """A value with its interval, where it has them."""
    value, low, high = (_number(row[name + end]) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]" if low else value


def main(
    out: Annotated[Path, typer.Argument(help="Folder of `experiments.sae.behavior`.")],
) -> None:
    """Draw the summary again."""
    draw(out)


if __name__ == "__main__":
    typer.run(main)
