"""Draw what `experiments.learned_selection` measured, from its Parquet: no model, no torch."""

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from experiments.tables import Shown, read_tables, save, titled

TABLES = {
    "predictions": Shown(
        "Predicted against measured usefulness of pairs: rank correlation, and by how much the "
        "vector of the best k beats that of k random ones, nats per token",
        ("behavior", "way", "learnt_from", "n", "k"),
        ("spearman", "beyond_random"),
    )
}
AXES = {
    "spearman": "rank correlation with the measured usefulness",
    "beyond_random": "effect beyond as many random pairs, nats per token",
}


def draw(out: Path) -> str:
    """Return the table of a folder as Markdown, and draw its figure.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.learned_selection")
    save(_predictions(tables["predictions"]), out / "predictions.svg")
    return titled(TABLES["predictions"], tables["predictions"])


def _predictions(rows: pl.DataFrame) -> Figure:
    """Draw both measures, a row a behaviour, a mark a way to predict."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    behaviors = rows["behavior"].unique(maintain_order=True).to_list()
    ways = rows.select("way", "learnt_from").unique(maintain_order=True).rows()
    for axis, (name, label) in zip(figure.subplots(1, 2, sharey=True), AXES.items(), strict=True):
        for place, (way, learnt_from) in enumerate(ways):
            for row in rows.filter(way=way, learnt_from=learnt_from).iter_rows(named=True):
                value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
                if value is None or low is None:
                    continue
                first = row["behavior"] == behaviors[0] and name == "spearman"
                axis.errorbar(
                    value,
                    behaviors.index(row["behavior"]) + 0.15 * (place - (len(ways) - 1) / 2),
                    xerr=[[value - low], [high - value]],
                    fmt="o" if learnt_from == "other pairs" else "s",
                    markersize=4,
                    color=f"C{place}",
                    label=f"{way}, from {learnt_from}" if first else None,
                )
        axis.axvline(0, color="0.7", linewidth=0.8)
        axis.set_xlabel(label)
    axis.set_yticks(range(len(behaviors)), behaviors)
    axis.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=len(ways), fontsize="small")
    return figure
