"""Draw what `experiments.analogies` measured, from its Parquet: no model, no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from experiments.tables import Shown, number, read_tables, save, titled

TABLES = {
    "transfers": Shown(
        "What steers a behaviour, at equal damage: its own vector, and how many of the others' "
        "clearly do, for or against it, uncorrected (the strongest is the largest of so many, "
        "which flatters it); every transfer is in the Parquet and, as a share, in the figure",
        ("to", "vector", "others", "clearly_for", "clearly_against", "strongest_other"),
        ("own", "of_strongest"),
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
ACROSS = 10  # behaviours whose two matrices stand side by side


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figure.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.analogies")
    save(_matrix(tables["transfers"]), out / "transfers.svg")
    tables["transfers"] = _steered(tables["transfers"])
    return "\n".join(titled(shown, tables[name]) for name, shown in TABLES.items())


def _steered(transfers: pl.DataFrame) -> pl.DataFrame:
    """Return a row a behaviour and kind of vector: what its own does to it, and what others' do."""
    itself = pl.col("from") == pl.col("to")
    kind = ("to", "vector")
    own = transfers.filter(itself).select(
        *kind, own="effect", own_low="effect_low", own_high="effect_high"
    )
    strongest = pl.col("effect").arg_max()
    others = transfers.filter(~itself)
    counted = others.group_by(kind).agg(
        others=pl.len(),
        clearly_for=(pl.col("effect_low") > 0).sum(),
        clearly_against=(pl.col("effect_high") < 0).sum(),
        strongest_other=pl.col("from").get(strongest),
        of_strongest=pl.col("effect").get(strongest),
        of_strongest_low=pl.col("effect_low").get(strongest),
        of_strongest_high=pl.col("effect_high").get(strongest),
    )
    return own.join(counted, on=kind, how="left", maintain_order="left")


def _matrix(rows: pl.DataFrame) -> Figure:
    """Draw two matrices: effects as a share of each behaviour's own vector's.

    A behaviour whose own vector has no clear effect is left blank.
    """
    names = rows["to"].unique(maintain_order=True).to_list()
    side = 1.8 + 0.5 * len(names)
    across = len(names) <= ACROSS
    shape = (2 * side + 1, side) if across else (side + 1.5, 2 * side)
    figure = Figure(figsize=shape, layout="constrained")
    grid = figure.subplots(1, 2) if across else figure.subplots(2, 1)
    for axis, vector in zip(grid, ("dense", "features"), strict=True):
        cells = {(r["from"], r["to"]): r for r in rows.filter(vector=vector).to_dicts()}
        shares = np.array([[_share(cells, a, b) for b in names] for a in names])
        image = axis.imshow(shares, cmap="RdBu_r", vmin=-1, vmax=1)
        for (i, j), share in np.ndenumerate(shares):
            text = "" if np.isnan(share) else number(share)
            color = "white" if abs(share) > 0.6 else "black"
            axis.text(j, i, text, ha="center", va="center", fontsize="x-small", color=color)
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.set_title("dense vectors" if vector == "dense" else "vectors of features")
        axis.set_xlabel("steers")
    figure.supylabel("vector of")
    figure.colorbar(image, ax=figure.axes, label="share of its own vector's effect")
    return figure


def _share(cells: Mapping[tuple[str, str], dict[str, Any]], one: str, other: str) -> float:
    whole, part = cells.get((other, other)), cells.get((one, other))
    if whole is None or part is None or not (whole["effect_low"] or 0) > 0:
        return float("nan")
    return float(part["effect"] / whole["effect"])
