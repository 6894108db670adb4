"""Draw what `experiments.ravel` measured, from its Parquet: no model, no torch."""

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from experiments.tables import Shown, panels, read_tables, save, titled

TABLES = {
    "kept": Shown(
        "Test prompts that the model answers, and the pairs made of them; of attributes with too "
        "few of them nothing is said",
        (
            *("domain", "attribute", "asked", "n", "templates", "entities", "values"),
            *("train", "validation", "enough"),
        ),
        ("answered",),
    ),
    "scores": Shown(
        "What is answered after an interchange: cause, share of the attribute's prompts with the "
        "source's value; isolation, share of other attributes' prompts with the base's; graded, "
        "change of the odds of the source's value against the base's, nats, on both kinds",
        ("domain", "attribute", "method", "features", "dimensions"),
        ("cause", "isolation", "mean", "product", "graded", "graded_others"),
    ),
}
MARKERS = "os^vDP*X<>d"


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figure.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.ravel")
    save(_cause_and_isolation(tables["scores"].filter(pl.col("method") != "")), out / "scores.svg")
    return "\n".join(titled(shown, tables[name]) for name, shown in TABLES.items())


def _cause_and_isolation(rows: pl.DataFrame) -> Figure:
    """Draw a panel an attribute, and a marker a method with its two intervals."""
    rows = rows.with_columns(panel=pl.concat_str("domain", "attribute", separator=": "))
    methods = rows["method"].unique(maintain_order=True).to_list()
    figure, axes = panels(rows["panel"].unique(maintain_order=True).to_list() or ["nothing to say"])
    for panel, axis in axes.items():
        for row in rows.filter(panel=panel).iter_rows(named=True):
            number = methods.index(row["method"])
            color, marker = f"C{number % 10}", MARKERS[number % len(MARKERS)]
            x, y = row["cause"], row["isolation"]
            axis.plot([row["cause_low"], row["cause_high"]], [y, y], color=color, linewidth=0.8)
            axis.plot([x, x], [row["isolation_low"], row["isolation_high"]], color=color, lw=0.8)
            axis.plot(x, y, marker, color=color, markersize=5, label=row["method"])
        axis.set_xlim(-0.04, 1.04)
        axis.set_ylim(-0.04, 1.04)
    figure.supxlabel("cause")
    figure.supylabel("isolation")
    markers, _ = next(iter(axes.values())).get_legend_handles_labels()
    figure.legend(handles=markers, loc="outside right upper", fontsize="small")
    return figure
