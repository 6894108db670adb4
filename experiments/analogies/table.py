"""Draw what `experiments.analogies` measured, from its Parquet: no model, no torch."""

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from experiments.tables import Shown, number, read_tables, save, titled

TABLES = {
    "transfers": Shown(
        "What the vector of one behaviour does to another, at equal damage",
        ("from", "to", "vector"),
        ("effect", "behavior_rate"),
    ),
    "predictions": Shown(
        "Predicted against measured transfer between unlike behaviours; intervals over behaviours",
        ("vector", "predictor", "cells"),
        ("spearman",),
    ),
    "helped": Shown(
        "A behaviour of few pairs, helped by another that attribution finds nearest",
        ("behavior", "way", "helper"),
        ("effect", "beyond_few"),
    ),
}


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figure.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.analogies")
    save(_matrix(tables["transfers"]), out / "transfers.svg")
    return "\n".join(titled(shown, tables[name]) for name, shown in TABLES.items())


def _matrix(rows: pl.DataFrame) -> Figure:
    """Draw two matrices: effects as a share of each behaviour's own vector's."""
    names = rows["from"].unique(maintain_order=True).to_list()
    side = 1.6 + 0.62 * len(names)
    figure = Figure(figsize=(2 * side + 1, side), layout="constrained")
    for axis, vector in zip(figure.subplots(1, 2), ("dense", "features"), strict=True):
        cells = {(r["from"], r["to"]): r["effect"] for r in rows.filter(vector=vector).to_dicts()}
        shares = np.array([[cells[a, b] / cells[b, b] for b in names] for a in names])
        image = axis.imshow(shares, cmap="RdBu_r", vmin=-1, vmax=1)
        for (i, j), share in np.ndenumerate(shares):
            axis.text(j, i, number(share), ha="center", va="center", fontsize="x-small")
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.set_title(f"{vector} vectors")
        axis.set_xlabel("steers")
    figure.supylabel("vector of")
    figure.colorbar(image, ax=figure.axes, label="share of its own vector's effect")
    return figure
