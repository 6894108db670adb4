"""Draw what `experiments.feature_discovery` measured, from its Parquet: no model, no torch."""

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from experiments.tables import Shown, band, over_features, panels, read_tables, save, titled

TABLES = {
    "areas": Shown(
        "Faithfulness and completeness, means over the numbers of features, shares of the whole "
        "vector's held-out effect; and beyond random features and beyond those by attribution "
        "patching, nats per token",
        ("behavior", "way"),
        (
            *("faithfulness", "completeness"),
            *("faithfulness_beyond_random", "completeness_beyond_random"),
            *("faithfulness_beyond_attribution", "completeness_beyond_attribution"),
        ),
    ),
    "ablations": Shown(
        "The unsteered model's held-out margin when the first features of the positive side are "
        "set to zero, beside random ones of the same sign, together as strong; nats per token",
        ("behavior", "way", "features", "random_features"),
        ("change", "as_strong", "beyond"),
    ),
}
BANDED = ("random", "attribution patching")  # with all intervals nothing could be told apart


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figures.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, (*TABLES, "curves"), "experiments.feature_discovery")
    for what in ("faithfulness", "completeness"):
        save(_curves(tables["curves"], what), out / f"{what}.svg")
    return "\n".join(titled(shown, tables[name]) for name, shown in TABLES.items())


def _curves(rows: pl.DataFrame, what: str) -> Figure:
    """Draw a panel a behaviour, a line a way over the number of features, random dashed."""
    figure, axes = panels(rows["behavior"].unique(maintain_order=True).to_list())
    for name, axis in axes.items():
        for (way,), line in rows.filter(behavior=name).group_by("way", maintain_order=True):
            x, y = line["features"].to_list(), line[what].to_list()
            (drawn,) = axis.plot(x, y, "k--" if way == "random" else "o-", markersize=3, label=way)
            if way in BANDED:
                band(axis, x, line, what, drawn.get_color())
        axis.axhline(1, color="0.8", linewidth=0.8)
        axis.axhline(0, color="0.8", linewidth=0.8)
        over_features(axis, rows["features"].unique().sort().to_list())
    figure.supxlabel("features")
    figure.supylabel(f"{what}, share of the whole vector's effect")
    lines, _ = next(iter(axes.values())).get_legend_handles_labels()
    figure.legend(handles=lines, loc="outside right upper")
    return figure
