"""Draw what `experiments.minimal_criteria` measured, from its Parquet: no model, no torch."""

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from experiments.tables import Shown, number, read_tables, save, titled

TABLES = {
    "criteria": Shown(
        "What is seen of a pair, against the effect of its own vector: Spearman's correlation, "
        "intervals over groups of pairs",
        ("behavior", "criterion"),
        ("spearman",),
    ),
    "choices": Shown(
        "Held-out effect of the vector of the best k pairs, beside that of k random ones",
        ("behavior", "way", "k"),
        ("effect", "random", "beyond_random"),
    ),
}


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figure.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.minimal_criteria")
    save(_correlations(tables["criteria"]), out / "criteria.svg")
    return "\n".join(titled(shown, tables[name]) for name, shown in TABLES.items())


def _correlations(rows: pl.DataFrame) -> Figure:
    """Draw the correlations as a matrix; those whose interval holds zero are in grey."""
    wide = rows.drop_nulls("spearman")
    names = wide["behavior"].unique(maintain_order=True).to_list()
    criteria = wide["criterion"].unique(maintain_order=True).to_list()
    cells = {(r["criterion"], r["behavior"]): r for r in wide.to_dicts()}
    values = np.full((len(criteria), len(names)), np.nan)
    figure = Figure(
        figsize=(3.2 + 0.9 * len(names), 1 + 0.42 * len(criteria)), layout="constrained"
    )
    axis = figure.subplots()
    for (criterion, name), row in cells.items():
        i, j = criteria.index(criterion), names.index(name)
        values[i, j] = row["spearman"]
        low, high = row["spearman_low"], row["spearman_high"]
        sure = low is not None and (low > 0 or high < 0)
        color = "black" if sure else "0.6"
        text = number(row["spearman"])
        axis.text(j, i, text, ha="center", va="center", color=color, fontsize="small")
    image = axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", alpha=0.75)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(criteria)), criteria)
    figure.colorbar(image, ax=axis, label="Spearman with measured usefulness")
    return figure
