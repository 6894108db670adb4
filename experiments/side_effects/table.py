"""Draw what `experiments.side_effects` measured, from its Parquet: no model, no torch."""

from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.tables import Shown, panels, read_tables, save, titled

STUDY = "experiments.side_effects"
PROSE = "nats on neutral text"
TABLES = {
    "vectors": Shown(
        "Vectors at equal damage on MMLU's questions in two choices and on neutral text, beside "
        "random directions; perplexity: times the unsteered model's on the neutral text",
        ("of", "vector", "sign", "measure", "items", "unsteered", "p_holm"),
        ("value", "change", "perplexity", "beyond_random"),
        units="measure",
    ),
    "topics": Shown(
        "A topic's features set to a multiple of their strongest activation wherever they fire, on "
        "the topic's held-out questions and on the rest, beside random features that write as "
        "much; damage on neutral text, nats per token",
        (
            *("topic", "features", "count", "clamped_to", "damage", "asked", "measure", "items"),
            *("unsteered", "p_holm"),
        ),
        ("value", "change", "beyond_random"),
        units="measure",
    ),
}


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figures.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, STUDY)
    tables["vectors"] = tables["vectors"].with_columns(
        pl.when(measure=PROSE).then(pl.col(name).exp()).alias(name.replace("change", "perplexity"))
        for name in ("change", "change_low", "change_high")
    )
    save(_vectors(tables["vectors"]), out / "vectors.svg")
    if tables["topics"].height:
        save(_topics(tables["topics"]), out / "topics.svg")
    return "\n".join(
        titled(shown, tables[name]) for name, shown in TABLES.items() if tables[name].height
    )


def _vectors(rows: pl.DataFrame) -> Figure:
    """Draw a panel a measure: the change by every vector with its interval, a line each."""
    measures = rows["measure"].unique(maintain_order=True).to_list()
    lines = rows.select("of", "vector", "sign").unique(maintain_order=True).rows()
    names = [" ".join(filter(None, (sign, of, vector))) for of, vector, sign in lines]
    figure = Figure(
        figsize=(2.5 * len(measures) + 3, 0.24 * len(lines) + 1.6), layout="constrained"
    )
    axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    kinds = list(dict.fromkeys(vector for _, vector, _ in lines))
    for measure, axis in zip(measures, axes, strict=True):
        for place, (of, vector, sign) in enumerate(lines):
            row = rows.filter(measure=measure, of=of, vector=vector, sign=sign).row(0, named=True)
            _bar(axis, place, row, f"C{kinds.index(vector)}")
        axis.axvline(0, color="k", linestyle="--", linewidth=0.8)
        axis.set_title(measure, fontsize="medium")
        axis.locator_params("x", nbins=4)
    axes[0].set_yticks(range(len(names)), names, fontsize="small")
    axes[0].invert_yaxis()
    figure.supxlabel("change against the unsteered model (dashed)")
    return figure


def _topics(rows: pl.DataFrame) -> Figure:
    """Draw a panel a measure: changes on each topic and on the rest, a colour a kind of feature."""
    asked = rows.filter(pl.col("asked") != "the topic less the rest")
    measures = asked["measure"].unique(maintain_order=True).to_list()
    lines = asked.select("topic", "clamped_to").unique(maintain_order=True).rows()
    names = [f"{topic},\nat {value:g}".replace("-", "−") for topic, value in lines]
    figure, axes = panels(measures)
    figure.set_size_inches(14, (0.45 * len(lines) + 1.4) * -(-len(measures) // 3))
    styles = {
        (part, features): (f"C{i}", shape)
        for i, part in enumerate(asked["asked"].unique(maintain_order=True))
        for features, shape in (("chosen", "o"), ("random", "x"))
    }
    for measure, axis in axes.items():
        for place, (topic, value) in enumerate(lines):
            some = asked.filter(measure=measure, topic=topic, clamped_to=value)
            for i, row in enumerate(some.to_dicts()):
                color, shape = styles[row["asked"], row["features"]]
                _bar(axis, place + 0.16 * (i - (some.height - 1) / 2), row, color, shape)
        axis.axvline(0, color="k", linestyle="--", linewidth=0.8)
        axis.set_yticks(range(len(lines)), names, fontsize="small")
        axis.invert_yaxis()
    figure.supxlabel("change against the untouched model (dashed)")
    marks = [
        Line2D([], [], color=color, marker=shape, label=f"{part}, {features} features")
        for (part, features), (color, shape) in styles.items()
    ]
    figure.legend(handles=marks, loc="outside right upper")
    return figure


def _bar(axis: Axes, place: float, row: dict[str, float], color: str, shape: str = "o") -> None:
    axis.plot(row["change"], place, shape, color=color, markersize=4)
    if row.get("change_low") is not None:
        axis.hlines(place, row["change_low"], row["change_high"], color=color, linewidth=1.2)
