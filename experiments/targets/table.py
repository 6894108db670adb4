"""Draw what `experiments.targets.study` measured, from its Parquet: no model, no torch.

python -m experiments.targets.table runs/targets
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
from rich.text import Text

from trimtab.errors import SelectionError

WIDTH = 140  # where the output is no terminal
FIGURE = "surrogates.svg"

Row = dict[str, Any]

COLUMNS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "correlations": (
        "Rank correlation with the behaviour rate: on the half of the vectors and the tuning "
        "prompts that chose, and on the other half and held-out questions",
        ("surrogate", "is"),
        ("calibration", "held_out", "held_out_other_judge"),
    ),
    "all_vectors": (
        "Rank correlation over all vectors, nothing fitted",
        ("surrogate",),
        ("tune", "held_out", "held_out_other_judge"),
    ),
    "halvings": (
        "Held-out rank correlation over random halves of the vectors: mean, 5th and 95th "
        "percentile, and how often a run would have picked it",
        ("surrogate", "picked"),
        ("mean",),
    ),
    "judges": (
        "The judge beside one of another kind, over all replies; rates: rank correlation of both",
        ("judge", "accuracy", "other", "other_accuracy", "replies", "agreement", "kappa"),
        ("rates",),
    ),
}
"""Of each table: its title, plain columns, and columns with an interval."""
NOT_SURROGATES = (
    "vector", "half", "multiplier", "cosine_to_dense", "rate_tune", "rate", "rate_other_judge",
)  # fmt: skip


def draw(out: Path, console: Console | None = None) -> None:
    """Print every table of a folder and some replies, and draw rates over effects.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    names = (*COLUMNS, "vectors", "replies")
    if missing := [name for name in names if not (out / f"{name}.parquet").exists()]:
        raise SelectionError(
            f"{out} has no {missing[0]}.parquet; `experiments.targets.study` writes it"
        )
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
    for name in COLUMNS:
        console.print(_table(name, pl.read_parquet(out / f"{name}.parquet")))
    vectors = pl.read_parquet(out / "vectors.parquet")
    console.print(_answers(vectors, pl.read_parquet(out / "replies.parquet")))
    with matplotlib.rc_context({"svg.hashsalt": "trimtab", "svg.fonttype": "none"}):
        _scatter(vectors).savefig(out / FIGURE, metadata={"Date": None})


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
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    return str(value).replace("_", " ")


def _interval(row: Row, name: str) -> str:
    """A value with its interval, where it has them."""
    ends = [
        row.get(name),
        row.get(f"{name}_low", row.get("low")),
        row.get(f"{name}_high", row.get("high")),
    ]
    value, low, high = ("" if x is None else f"{x:.2f}".replace("-", "−") for x in ends)
    return f"{value} [{low}, {high}]" if low else value


def _answers(vectors: pl.DataFrame, replies: pl.DataFrame) -> Table:
    """The answers to one question under the best, the median and the worst vector."""
    ranked = vectors.sort("rate", descending=True)["vector"].to_list()
    shown = list(dict.fromkeys(["unsteered", ranked[0], ranked[len(ranked) // 2], ranked[-1]]))
    asked = replies.filter(pl.col("asked") == "questions")
    question = str(asked["prompt"].first())
    table = Table(title=Text(f"Answers to: {question}"), title_justify="left", box=SIMPLE_HEAD)
    for column in ("vector", "reply", "probability"):
        table.add_column(column)
    for row in asked.filter(pl.col("prompt") == question).iter_rows(named=True):
        if row["vector"] in shown:  # texts are other people's, never markup
            table.add_row(Text(row["vector"]), Text(row["reply"]), f"{row['probability']:.2f}")
    return table


def _scatter(vectors: pl.DataFrame) -> Figure:
    """Draw held-out rates over effects, a panel a surrogate."""
    names = [name for name in vectors.columns if name not in NOT_SURROGATES]
    columns = 3
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * lines), layout="constrained")
    for place, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, place + 1)
        for half, style in (("calibration", "o"), ("held out", "x")):
            some = vectors.filter(pl.col("half") == half)
            axes.plot(some[name].to_list(), some["rate"].to_list(), style, markersize=4, label=half)
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(name.replace("_", " "), fontsize="small")
    figure.supylabel("behaviour rate on held-out questions")
    figure.supxlabel("effect; circles: vectors that chose, crosses: the others")
    return figure


def main(
    out: Annotated[Path, typer.Argument(help="Folder of `experiments.targets.study`.")],
) -> None:
    """Draw the tables and the figure again."""
    draw(out)


if __name__ == "__main__":
    typer.run(main)
