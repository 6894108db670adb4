"""Draw what `experiments.successors` measured, from its Parquet: no model, no torch."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.tables import Shown, read_tables, save, titled

TABLES = {
    "index": Shown(
        "Share of items whose index is told by what other sequences have at each index, over all "
        "sequences, beside shuffled indices; intervals over items, whose spellings count as one",
        ("task", "context", "taught_by", "read", "items", "choices"),
        ("accuracy", "shuffled", "beyond"),
    ),
    "features": Shown(
        "The features that all kinds share most by index: where their mean is highest, the kinds "
        "in which they fire more there than on average, how alike their profiles are; p: how often "
        "any feature is shared as much when indices are exchanged",
        ("context", "feature", "index", "kinds", "likeness", "p"),
    ),
    "steering": Shown(
        "The next item, when what other kinds share is added at the last one; shares of items, and "
        "changes of log-odds among the sequence's items in nats: one after the next against the "
        "next under the step on, the last one against the next under the step back, and the first "
        "of these against the other under the one step less the other, halved",
        ("sequence", "way", "items"),
        (
            *("names_next", "names_one_further", "on", "back", "direction"),
            *("beyond_random_features", "beyond_shuffled_indices"),
        ),
    ),
    "classes": Shown(
        "How probable it is that a concept of the same class overlaps more than one of another, "
        "beside that when classes are exchanged (by chance; p: how often it is as much), within "
        "the classes of another attribute where one is named; beyond form: with what the words' "
        "likeness in spelling and in numbers of letters and tokens explains taken off",
        (
            *("domain", "attribute", "within", "overlap", "concepts"),
            *("by_chance", "p", "p_beyond_form"),
        ),
        ("area", "area_beyond_form"),
    ),
    "kinship": Shown(
        "Change of the log-probability of classes, among those of an attribute, when what a "
        "relative has more of is added to an animal, nats; `class`: whether the relative has the "
        "animal's own; known: how often the animal's own is the likeliest without; given named: "
        "how often the relative's is the likeliest with it",
        ("relation", "attribute", "class", "added", "animals"),
        ("known", "own", "given", "given_named", "given_against_own", "beyond_random"),
    ),
}
WHOLE = "all"  # sequences of a kind, or all of them
HEIGHT = 0.34  # of a name, inches


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figures.

    The page has sequences together; one by one they are in the figures.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.successors")
    of_a_kind = (pl.col("sequence") == WHOLE) & (pl.col("kind") != WHOLE)
    save(_told(tables["index"].filter(~of_a_kind)), out / "index.svg")
    save(_steered(tables["steering"].filter(~of_a_kind)), out / "steering.svg")
    save(_classes(tables["classes"]), out / "classes.svg")
    for name in ("index", "steering"):
        tables[name] = tables[name].filter(sequence=WHOLE, kind=WHOLE)
    return "\n".join(titled(shown, tables[name]) for name, shown in TABLES.items())


def _told(rows: pl.DataFrame) -> Figure:
    """Draw, a panel a context, how often the first task's index is told, and shuffled indices."""
    task = str(rows["task"].first())
    rows = rows.filter(taught_by="other kinds", task=task)
    contexts = rows["context"].unique(maintain_order=True).to_list()
    names = rows["sequence"].unique(maintain_order=True).to_list()
    figure, axes = _lines(names, len(contexts))
    for axis, context in zip(axes, contexts, strict=True):
        some = rows.filter(context=context)
        _points(axis, names, some["sequence"], some, "read", "accuracy")
        _points(axis, names, some["sequence"], some, "read", "shuffled", "|")
        axis.set_title(context, fontsize="medium")
        axis.set_xlim(-0.03, 1.03)
    figure.supxlabel(f"share of items told their {task}; ticks: by shuffled indices")
    return _with_legend(figure, axes[0])


def _steered(rows: pl.DataFrame) -> Figure:
    """Draw how far each way to steer moves the next item on, sequence by sequence."""
    rows = rows.filter(pl.col("way") != "unsteered")
    names = rows["sequence"].unique(maintain_order=True).to_list()
    figure, (axis,) = _lines(names, 1)
    _points(axis, names, rows["sequence"], rows, "way", "direction")
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.set_xlabel("direction: one further against one less, nats")
    return _with_legend(figure, axis)


def _classes(rows: pl.DataFrame) -> Figure:
    """Draw how well each overlap tells the classes of each attribute."""
    within = pl.when(pl.col("within") == "").then(pl.lit("")).otherwise(pl.lit(" within "))
    asked = pl.concat_str("domain", pl.lit(": "), "attribute", within, "within")
    asked_of = rows.select(asked=asked)["asked"]
    names = asked_of.unique(maintain_order=True).to_list()
    figure, (axis,) = _lines(names, 1)
    _points(axis, names, asked_of, rows, "overlap", "area")
    axis.axvline(0.5, color="0.6", linewidth=0.8)
    axis.set_xlabel("probability that one of its class overlaps more")
    return _with_legend(figure, axis)


def _lines(names: Sequence[str], across: int) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with panels side by side that have a line for each name, the first on top."""
    size = (3.2 * across + 4, HEIGHT * len(names) + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, across, sharey=True, squeeze=False)[0]
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    for axis in axes:
        for line in range(1, len(names), 2):
            axis.axhspan(line - 0.5, line + 0.5, color="0.95", linewidth=0)
    return figure, axes


def _points(
    axis: Axes,
    names: Sequence[str],
    named: pl.Series,
    rows: pl.DataFrame,
    series: str,
    value: str,
    marker: str = "o",
) -> None:
    """Draw a column's values, dots with their intervals; a line a name, a colour a series.

    Args:
        axis: that has a line for each of `names`.
        names: from top to bottom.
        named: which of them each row is of.
        rows: of one panel.
        series: the column that colours tell apart.
        value: the column that is drawn.
        marker: of values; only dots have intervals, and are in the legend.
    """
    rows = rows.with_columns(line=named.replace_strict(names, range(len(names))))
    every = rows[series].unique(maintain_order=True).to_list()
    for number, one in enumerate(every):
        some = rows.filter(pl.col(series) == one).drop_nulls(value)
        y = (some["line"] + (number - (len(every) - 1) / 2) * 0.8 / len(every)).to_list()
        label = None
        if marker == "o":
            bounded, label = some.drop_nulls(f"{value}_low"), one
            at = (bounded["line"] + (number - (len(every) - 1) / 2) * 0.8 / len(every)).to_list()
            low, high = (bounded[f"{value}_{end}"].to_list() for end in ("low", "high"))
            axis.hlines(at, low, high, color=f"C{number}", linewidth=1)
        axis.plot(some[value].to_list(), y, marker, color=f"C{number}", markersize=4, label=label)


def _with_legend(figure: Figure, axis: Axes) -> Figure:
    lines, _ = axis.get_legend_handles_labels()
    figure.legend(handles=lines, loc="outside right upper")
    return figure
