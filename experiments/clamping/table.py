"""Draw what `experiments.clamping` measured, from its Parquet: no model, no torch."""

import textwrap
from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.tables import Shown, read_tables, save, spaced, titled

STUDY = "experiments.clamping"
TABLES = {
    "verdicts": Shown(
        "Clamps that help, more than those of random features do, and that harm, after Holm's "
        "correction for all clamps of chosen features and the measure; where even the smallest p "
        "that the questions allow would not be clear they cannot tell. Small: at most 0.1 of the "
        "strongest activation, large: at least all of it; damage in nats per token",
        (
            *("task", "measure", "clamps", "tested", "better", "worse", "worse_than_random"),
            *("best_change", "worst_change", "least_p_gain", "least_p_loss"),
            *("least_damage", "most_damage"),
        ),
    ),
    "closeness": Shown(
        "Closeness of features and task against the change at equal damage, and against its size: "
        "Spearman's correlation over sets of features, ranked among those of as many; intervals "
        "over questions",
        ("task", "measure", "clamp", "closeness", "sets"),
        ("spearman", "spearman_of_size"),
    ),
    "clamps": Shown(
        "Clamps of the largest sets, brought to equal damage: the fraction of the features' "
        "strongest activation that it takes, the mean value that they are set to, the value beside "
        "the unsteered model's, and of the answers that changed the share that were right and are "
        "wrong now; all other clamps are in the Parquet and in the figures",
        (
            *("task", "measure", "choice", "features", "draws", "count", "clamp"),
            *("fraction", "raw", "damage", "items", "unsteered", "p_holm"),
        ),
        ("value", "change", "wrongly_changed", "beyond_random"),
        units="measure",
    ),
    "features": Shown(
        "The first features of each set; likeness of the label to the phrases, contrast: Cohen's d "
        "of true and false answers",
        (
            *("task", "choice", "features", "feature", "label"),
            *("strongest", "likeness", "contrast"),
        ),
    ),
}
FIRST = 4  # features of a set that the page shows
AT_BUDGET = pl.col("clamp").str.contains("nats")
WRAP = 34  # letters of a panel's title a line
APART = 0.12  # numbers of features beside one another, so that their intervals can be told apart


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figures.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, STUDY)
    if tables["clamps"].height:
        for (task,), rows in tables["clamps"].group_by("task", maintain_order=True):
            save(_strengths(rows), out / f"{str(task).lower()}.svg")
        tables["clamps"] = tables["clamps"].filter(
            AT_BUDGET & (pl.col("count") == pl.col("count").max())
        )
        told = pl.col("better", "worse", "worse_than_random").cast(pl.String)
        tables["verdicts"] = tables["verdicts"].with_columns(told.fill_null("cannot tell"))
    tables["features"] = tables["features"].filter(draw=0)
    sets = ("task", "choice", "features")
    tables["features"] = tables["features"].group_by(*sets, maintain_order=True).head(FIRST)
    return "\n".join(
        titled(shown, tables[name]) for name, shown in TABLES.items() if tables[name].height
    )


def _strengths(rows: pl.DataFrame) -> Figure:
    """Draw a row of panels a measure, a panel a choice of features, lines over the strength.

    Chosen features are solid and random ones dotted, a colour a number of features; the unsteered
    model is dashed. What was brought to the damage budget stands apart, at the ends.
    """
    measures = rows["measure"].unique(maintain_order=True).to_list()
    choices = rows["choice"].unique(maintain_order=True).to_list()
    counts = rows["count"].unique().sort().to_list()
    names = _clamps(rows)
    figure = Figure(
        figsize=(3.2 * len(choices) + 2.2, 1.9 * len(measures) + 1.2), layout="constrained"
    )
    grid = figure.subplots(len(measures), len(choices), squeeze=False, sharex=True, sharey="row")
    for measure, axes in zip(measures, grid, strict=True):
        axes[0].set_ylabel(textwrap.fill(spaced(measure), 16))
        for choice, axis in zip(choices, axes, strict=True):
            some = rows.filter(measure=measure, choice=choice)
            _panel(axis, some, names, counts)
    for choice, axis in zip(choices, grid[0], strict=True):
        axis.set_title(textwrap.fill(choice, WRAP), fontsize="medium")
    for axis in grid[-1]:
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize="small")
    figure.supxlabel("clamp: fraction of the strongest activation, or damage")
    marks = [Line2D([], [], color=f"C{i}", marker="o", markersize=3) for i in range(len(counts))]
    kinds = [Line2D([], [], color="0.3", linestyle=style) for style in ("-", ":")]
    lines = [*marks, *kinds, Line2D([], [], color="k", linestyle="--", linewidth=0.8)]
    labels = [f"{count} feature{'s' * (count > 1)}" for count in counts]
    figure.legend(lines, [*labels, "chosen", "random", "unsteered"], loc="outside right upper")
    return figure


def _panel(axis: Axes, rows: pl.DataFrame, names: list[str], counts: list[int]) -> None:
    if rows["value"].null_count() == rows.height:
        why = textwrap.fill(rows["value_reason"][0] if rows.height else "not measured", 30)
        axis.set_yticks([])
        axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", fontsize=7)
        return
    axis.axhline(rows["unsteered"][0], color="k", linestyle="--", linewidth=0.8)
    place = {name: i for i, name in enumerate(names)}
    for (features, count), line in rows.group_by("features", "count", maintain_order=True):
        which = counts.index(int(str(count)))
        color, beside = f"C{which}", APART * (which - (len(counts) - 1) / 2)
        style = "-" if features == "chosen" else ":"
        for apart in (False, True):
            some = line.filter(apart == AT_BUDGET)
            some = some.with_columns(
                place=pl.col("clamp").replace_strict(place, return_dtype=pl.Int64)
            ).sort("place")
            x, y = (some["place"] + beside).to_list(), some["value"].to_list()
            shape = "" if apart else style
            axis.plot(x, y, shape + "o", color=color, markersize=3, linewidth=1.1, mfc=_face(style))
            low, high = some["value_low"].to_list(), some["value_high"].to_list()
            if features == "chosen" and None not in low:
                axis.vlines(x, low, high, color=color, alpha=0.25, linewidth=3)


def _face(style: str) -> str | None:
    return None if style == "-" else "white"


def _clamps(rows: pl.DataFrame) -> list[str]:
    """Return the clamps' names: at the budget below zero, by their strength, at it above zero."""
    fixed = rows.filter(~AT_BUDGET).sort("fraction")
    budget = rows.filter(AT_BUDGET)["clamp"].unique().to_list()
    below, above = (
        [name for name in budget if name.startswith(way)] for way in ("negative", "positive")
    )
    return [*below, *fixed["clamp"].unique(maintain_order=True).to_list(), *above]
