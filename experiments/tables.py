"""Tables as Markdown and figures as SVG, from Parquet and JSON: no model, no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trimtab.errors import SelectionError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """How a Parquet table is shown.

    Attributes:
        title: what it says.
        plain: columns that stand as they are.
        estimated: columns whose interval is in `NAME_low` and `NAME_high`.
    """

    title: str
    plain: tuple[str, ...]
    estimated: tuple[str, ...] = ()


def read_tables(out: Path, names: Iterable[str], study: str) -> dict[str, pl.DataFrame]:
    """Return a folder's tables by name.

    Raises:
        SelectionError: one of them is not there; `study` is named as what writes it.
    """
    files = {name: out / f"{name}.parquet" for name in names}
    for file in files.values():
        if not file.exists():
            raise SelectionError(f"{out} has no {file.name}; `{study}` writes it")
    return {name: pl.read_parquet(file) for name, file in files.items()}


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of ready cells as a Markdown table; a row may lack some of the columns."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns), *([row.get(c, "") for c in columns] for row in rows)]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def titled(shown: Shown, table: pl.DataFrame) -> str:
    """Return a table under its title."""
    rows = [
        {spaced(name): plain(row[name]) for name in shown.plain}
        | {spaced(name): interval(row, name) for name in shown.estimated}
        for row in table.iter_rows(named=True)
    ]
    return f"{shown.title}.\n\n{markdown(rows)}"


def spaced(name: object) -> str:
    """Return a name in code as words."""
    return str(name).replace("_", " ")


def plain(value: object) -> str:
    """Return a cell: nothing for None, two decimals for a number that has any."""
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else spaced(value)


def number(value: float | None) -> str:
    """Return a number with two decimals and a true minus."""
    return "" if value is None else f"{value:.2f}".replace("-", "−")


def interval(row: Row, name: str) -> str:
    """Return a row's value with its interval, where it has one."""
    return estimate(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"))


def estimate(value: float | None, low: float | None, high: float | None) -> str:
    """Return a value with its interval, where it has one."""
    shown = number(value)
    return f"{shown} [{number(low)}, {number(high)}]" if low is not None else shown


def panels(names: Sequence[str], across: int = 3) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a titled panel for each name, and the panels by name."""
    down = -(-len(names) // across)
    figure = Figure(figsize=(3 * min(across, len(names)) + 2, 2.6 * down), layout="constrained")
    axes = figure.subplots(down, min(across, len(names)), squeeze=False).flatten()
    for axis, name in zip(axes, names, strict=False):
        axis.set_title(spaced(name), fontsize="medium")
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    return figure, dict(zip(names, axes, strict=False))


def over_features(axis: Axes, counts: Sequence[int]) -> None:
    """Let a panel's x axis be numbers of features, by doublings, with a tick at each count."""
    axis.set_xscale("log", base=2)
    axis.set_xlim(min(counts) / 1.3, max(counts) * 1.3)
    axis.set_xticks(counts, [str(count) for count in counts])


def save(figure: Figure, file: Path) -> None:
    """Write a figure as SVG: the same figures, the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "trimtab", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None})


def _cell(text: str) -> str:
    """Texts may come from anywhere: none of them ends a cell or a row."""
    return " ".join(text.split()).replace("|", "\\|")
