"""Draw what `experiments.feature_naming` measured, from its Parquet: no model, no torch."""

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from experiments.tables import Shown, read_tables, save, titled

TABLES = {
    "names": Shown(
        "Names against texts that end where a feature fires: area under the curve, and the share "
        "of texts that find the feature among the first ten; intervals over features",
        ("name", "features"),
        ("detection", "among_first_ten"),
    ),
    "promotion": Shown(
        "Share of the places where a feature is strongest whose next token is promoted",
        ("promoted", "features"),
        ("share",),
    ),
    "kinds": Shown(
        "Detection by the label alone, by its kind", ("kind", "features"), ("detection",)
    ),
}


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figure.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, (*TABLES, "features"), "experiments.feature_naming")
    save(_spread(tables["features"]), out / "detection.svg")
    return "\n".join(titled(shown, tables[name]) for name, shown in TABLES.items())


def _spread(rows: pl.DataFrame) -> Figure:
    """Draw how detection spreads over features, for each name and its control."""
    figure = Figure(figsize=(8.5, 3.5), layout="constrained")
    axis = figure.subplots()
    for (name,), own in rows.group_by("name", maintain_order=True):
        values = own["detection"].sort()
        share = [(i + 1) / len(values) for i in range(len(values))]
        control = name.endswith("of another feature")
        axis.plot(
            values.to_list(),
            share,
            "--" if control else "-",
            label="the same, of another feature" if control else name,
            color="0.6" if control else None,
        )
    axis.axvline(0.5, color="0.8", linewidth=0.8)
    axis.set_xlabel("area under the curve, texts where it fires against others")
    axis.set_ylabel("share of features at most there")
    by_label = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))  # controls once
    figure.legend(by_label.values(), by_label, loc="outside right upper", fontsize="small")
    return figure
