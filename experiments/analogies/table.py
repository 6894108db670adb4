"""Draw what `experiments.analogies` measured, from its Parquet: no model, no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from experiments.tables import Shown, number, read_tables, save, titled

TABLES = {
    "transfers": Shown(
        "What steers a behaviour, at equal damage: its own vector, and how many of the others' "
        "clearly do, for or against it, uncorrected; the strongest are the extremes of so many, "
        "which flatters them. Every transfer is in the Parquet, and in the figure as a share, "
        "with a number where the effect is clear",
        ("to", "vector", "others", "clearly_for", "clearly_against", "most_for", "most_against"),
        ("own", "of_most_for", "of_most_against"),
    ),
    "predictions": Shown(
        "Predicted against measured transfer between unlike behaviours; intervals over behaviours; "
        "chance: share of exchanges of names that correlate as strongly",
        ("vector", "predictor", "cells", "chance"),
        ("spearman",),
    ),
    "helped": Shown(
        "A behaviour of few pairs, helped by the one whose vector is most like theirs",
        ("behavior", "way", "helper"),
        ("effect", "beyond_few"),
    ),
}
RATES = Shown(
    "Behaviour rates without a vector and under a behaviour's own, at equal damage; those under "
    "other behaviours' vectors are in the Parquet",
    ("to", "vector"),
    ("behavior_rate",),
)


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figure.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.analogies")
    save(_matrix(tables["transfers"]), out / "transfers.svg")
    transfers = tables["transfers"]
    own = (pl.col("from") == pl.col("to")) | (pl.col("vector") == "unsteered")
    rates = transfers.filter(own & pl.col("behavior_rate").is_not_null())
    tables["transfers"] = _steered(transfers)
    told = [titled(shown, tables[name]) for name, shown in TABLES.items()]
    return "\n".join([*told, titled(RATES, rates)] if len(rates) else told)


def _steered(transfers: pl.DataFrame) -> pl.DataFrame:
    """Return a row a behaviour and kind of vector: what its own does to it, and what others' do."""
    itself = pl.col("from") == pl.col("to")
    kind = ("to", "vector")
    own = transfers.filter(itself).select(
        *kind, own="effect", own_low="effect_low", own_high="effect_high"
    )
    others = transfers.filter(~itself)
    counted = others.group_by(kind).agg(
        others=pl.len(),
        clearly_for=(pl.col("effect_low") > 0).sum(),
        clearly_against=(pl.col("effect_high") < 0).sum(),
        **_of("most_for", pl.col("effect").arg_max()),
        **_of("most_against", pl.col("effect").arg_min()),
    )
    return own.join(counted, on=kind, how="left", maintain_order="left")


def _of(name: str, which: pl.Expr) -> dict[str, pl.Expr]:
    """Return whose effect is at an index of a group, and that effect with its interval."""
    ends = {f"of_{name}{end}": pl.col(f"effect{end}").get(which) for end in ("", "_low", "_high")}
    return {name: pl.col("from").get(which), **ends}


def _matrix(rows: pl.DataFrame) -> Figure:
    """Draw two matrices: effects as a share of each behaviour's own vector's, in numbers if clear.

    A behaviour whose own vector has no clear effect has no column.
    """
    names = rows["to"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(4.6 + 0.7 * len(names), 2.2 + 0.5 * len(names)), layout="constrained")
    shades = ScalarMappable(Normalize(-1, 1), "RdBu_r")
    for axis, vector in zip(figure.subplots(1, 2), ("dense", "features"), strict=True):
        cells = {(r["from"], r["to"]): r for r in rows.filter(vector=vector).to_dicts()}
        steered = [name for name in names if _clear(cells.get((name, name))) > 0]
        shares = np.array([[_share(cells, a, b) for b in steered] for a in names])
        if steered:
            axis.imshow(shares, norm=shades.norm, cmap=shades.cmap, aspect="auto")
        for (i, j), share in np.ndenumerate(shares):
            if _clear(cells.get((names[i], steered[j]))):
                color = "white" if abs(share) > 0.6 else "black"
                text = number(float(share))
                axis.text(j, i, text, ha="center", va="center", fontsize="x-small", color=color)
        axis.set_xticks(range(len(steered)), steered, rotation=60, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.set_title("dense vectors" if vector == "dense" else "vectors of features")
        axis.set_xlabel("steers")
    figure.supylabel("vector of")
    figure.colorbar(shades, ax=figure.axes, label="share of its own vector's effect", aspect=40)
    return figure


def _clear(cell: Mapping[str, Any] | None) -> int:
    """Return the sign of an effect whose interval does not hold zero, else 0."""
    if cell is None or cell["effect_low"] is None:
        return 0
    return int(cell["effect_low"] > 0) - int(cell["effect_high"] < 0)


def _share(cells: Mapping[tuple[str, str], Mapping[str, Any]], one: str, other: str) -> float:
    part = cells.get((one, other))
    if part is None or part["effect"] is None:
        return float("nan")
    return float(part["effect"] / cells[other, other]["effect"])
