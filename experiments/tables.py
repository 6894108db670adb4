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
from trimtab.model.features.descriptions import visible

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """How a Parquet table is shown.

    Attributes:
        title: what it says.
        plain: columns that stand as they are.
        estimated: columns whose interval is in `NAME_low` and `NAME_high`.
        units: the column whose values have units of their own, so that intervals of one are not
            compared with those of another.
    """

    title: str
    plain: tuple[str, ...]
    estimated: tuple[str, ...] = ()
    units: str = ""


def read_tables(out: Path, names: Iterable[str], study: str) -> dict[str, pl.DataFrame]:
    """Return a folder's tables by name.

    Raises:
        SelectionError: one of them is not there or damaged; `study` is named as what writes it.
    """
    files = {name: out / f"{name}.parquet" for name in names}
    for file in files.values():
        if not file.exists():
            raise SelectionError(f"{out} has no {file.name}; `{study}` writes it")
    tables = {}
    for name, file in files.items():
        try:
            tables[name] = pl.read_parquet(file)
        except pl.exceptions.PolarsError as error:
            why = f"{file} cannot be read ({error}); `{study}` writes it anew"
            raise SelectionError(why) from None
    return tables


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
    parts = table.partition_by(shown.units, maintain_order=True) if shown.units else [table]
    told = [
        f"{f'{spaced(part[shown.units][0])}: ' if shown.units else ''}{seen}"
        for part in parts
        if (seen := _detectable_of(shown, part))
    ]
    could = (
        f"Smallest difference that four runs of five would show, by the median interval: "
        f"{'; '.join(told)}.\n"
        if told
        else ""
    )
    return "\n".join(filter(None, (f"{shown.title}.\n", markdown(rows), could)))


def _detectable_of(shown: Shown, table: pl.DataFrame) -> str:
    """Return the smallest differences that each estimated column would show."""
    found = ((name, detectable(table, name)) for name in shown.estimated)
    return ", ".join(f"{spaced(name)} {number(least)}" for name, least in found if least)


def detectable(table: pl.DataFrame, name: str) -> float | None:
    """Return the smallest value that an interval as wide as the median would show, at 80 % power.

    It is 2.80 standard errors, and a 95 % interval reaches 1.96 of them to either side.
    """
    if f"{name}_low" not in table.columns:
        return None
    width = (table[f"{name}_high"] - table[f"{name}_low"]).drop_nulls().median()
    return None if width is None else float(width) / 2 * 2.80 / 1.96  # type: ignore[arg-type]


def spaced(name: object) -> str:
    """Return a name in code as words."""
    return str(name).replace("_", " ")


def plain(value: object) -> str:
    """Return a cell: nothing for None, two decimals for a number, or one digit that is not 0."""
    if value is None:
        return ""
    if isinstance(value, float) and 0 < abs(value) < 0.005:  # a p of 0.00 would be none
        return f"{value:.1g}".replace("-", "−")
    return number(value) if isinstance(value, float) else spaced(value)


def number(value: float | None) -> str:
    """Return a number with two decimals and a true minus."""
    return "" if value is None else f"{value:.2f}".replace("-", "−")


def interval(row: Row, name: str) -> str:
    """Return a row's value with its interval, where it has one, or why there is no value."""
    if row.get(name) is None:
        return row.get(f"{name}_reason") or ""
    return estimate(row[name], row.get(f"{name}_low"), row.get(f"{name}_high"))


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


def band(axis: Axes, x: Sequence[float], table: pl.DataFrame, name: str, color: Any = None) -> None:
    """Shade the intervals of a column over `x`; points without one have none."""
    low, high = (
        table[f"{name}_{end}"].cast(pl.Float64).fill_null(float("nan")).to_list()
        if f"{name}_{end}" in table.columns
        else [float("nan")] * len(x)
        for end in ("low", "high")
    )
    axis.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)


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
    """Texts may come from anywhere: none of them ends a cell or a row, or is obeyed."""
    return visible(" ".join(text.split())).replace("|", "\\|")
