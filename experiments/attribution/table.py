"""Draw what `experiments.attribution.study` measured, from its Parquet: no model, no torch.

python -m experiments.attribution.table runs/attribution
"""

from pathlib import Path
from typing import Annotated, Any

import matplotlib
import polars as pl
import typer
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from trimtab.errors import SelectionError

WIDTH = 140  # where the output is no terminal
FIGURE = "brittleness.svg"

Row = dict[str, Any]

COLUMNS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "lds": (
        "Linear datamodeling score over random subsets, at one fixed multiplier; the ceiling is "
        "the split-half reliability, Spearman-Brown corrected; cost in forward passes",
        ("unit", "subsets", "n_subsets", "estimator", "cost"),
        ("lds_scored", "ceiling_scored", "lds_held_out", "ceiling_held_out"),
    ),
    "brittleness": (
        "Held-out effect after the top samples are dropped",
        ("estimator", "dropped"),
        ("effect",),
    ),
    "recall": (
        "Poisoned pairs among as many suspects; intervals over seeds",
        ("kind", "share", "estimator"),
        ("recall",),
    ),
    "recovery": (
        "Held-out effect with flipped pairs, every vector at equal damage",
        ("share", "vector"),
        ("effect", "of_clean"),
    ),
    "anti_steering": (
        "Pairs that go the wrong way, and the mean slope, at equal damage",
        ("pairs", "vector"),
        ("wrong_way", "slope"),
    ),
}
"""Of each table: its title, plain columns, and columns with an interval."""


def draw(out: Path, console: Console | None = None) -> None:
    """Print every table of a folder, and draw the brittleness curves.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    if missing := [name for name in COLUMNS if not (out / f"{name}.parquet").exists()]:
        raise SelectionError(
            f"{out} has no {missing[0]}.parquet; `experiments.attribution.study` writes it"
        )
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
    for name in COLUMNS:
        console.print(_table(name, pl.read_parquet(out / f"{name}.parquet")))
    curves = pl.read_parquet(out / "brittleness.parquet")
    with matplotlib.rc_context({"svg.hashsalt": "trimtab", "svg.fonttype": "none"}):
        _curves(curves).savefig(out / FIGURE, metadata={"Date": None})


def _table(name: str, rows: pl.DataFrame) -> Table:
    title, plain, estimated = COLUMNS[name]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in plain:
        table.add_column(column.replace("_", " "))
    for column in estimated:
        table.add_column(column.replace("_", " "), no_wrap=True)
    for row in rows.iter_rows(named=True):
        cells = [_plain(row[column]) for column in plain]
        table.add_row(*cells, *(_interval(row, column) for column in estimated))
    return table


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0%}"
    return str(value).replace("_", " ")


def _interval(row: Row, name: str) -> str:
    """A value with its interval, where it has them."""
    ends = [row.get(name + end) for end in ("", "_low", "_high")]
    value, low, high = ("" if x is None else f"{x:.3f}".replace("-", "−") for x in ends)
    return f"{value} [{low}, {high}]" if low else value


def _curves(rows: pl.DataFrame) -> Figure:
    """Draw one line an estimator, random drops dashed with their interval."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name,), points in rows.group_by("estimator", maintain_order=True):
        share = (points["dropped"] / points["n"]).to_list()
        random = name == "random"
        label = str(name).replace("_", " ")
        axes.plot(share, points["effect"].to_list(), "k--" if random else "-", label=label)
        if random and points["effect_low"].null_count() == 0:
            low, high = points["effect_low"].to_list(), points["effect_high"].to_list()
            axes.fill_between(share, low, high, color="0.85")
    axes.set_xlabel("share of the samples dropped, top first")
    axes.set_ylabel("held-out effect, nats per token")
    axes.legend(fontsize="small")
    return figure


def main(
    out: Annotated[Path, typer.Argument(help="Folder of `experiments.attribution.study`.")],
) -> None:
    """Draw the tables and the figure again."""
    draw(out)


if __name__ == "__main__":
    typer.run(main)
