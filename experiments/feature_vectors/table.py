"""Draw what `experiments.feature_vectors` measured, from its Parquet: no model, no torch."""

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from experiments.tables import Shown, band, over_features, panels, read_tables, save, titled

TABLES = {
    "decompositions": Shown(
        "The dense vector written as features; `missing` is the length of what is left out, as a "
        "share; `damage` is where the dense vector stands at the budget, effect and rate are at "
        "equal damage",
        ("behavior", "vector", "features", "cosine", "missing", "damage"),
        ("effect", "beyond_dense", "behavior_rate"),
    ),
    "layers": Shown(
        "Layer by layer, at equal damage",
        ("behavior", "layer", "vector"),
        ("effect", "behavior_rate"),
    ),
    "together": Shown(
        "Several vectors at once, each at the budget by itself: effect on the first behaviour's "
        "pairs. Interference is what all do, less what each does alone",
        ("behavior", "other", "vector", "cosine", "damage_of_both"),
        (
            *("alone", "other_alone", "both", "interference"),
            *("other_later_alone", "both_later", "interference_later"),
        ),
    ),
}


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figures.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.feature_vectors")
    save(_by_features(tables["decompositions"]), out / "decompositions.svg")
    save(_by_layer(tables["layers"]), out / "layers.svg")
    return "\n".join(titled(shown, tables[name]) for name, shown in TABLES.items())


def _by_features(rows: pl.DataFrame) -> Figure:
    """Draw a panel a behaviour: effect over the number of features, the dense vector dashed."""
    figure, axes = panels(rows["behavior"].unique(maintain_order=True).to_list())
    for name, axis in axes.items():
        own = rows.filter(behavior=name)
        for (way,), line in own.drop_nulls("features").group_by("vector", maintain_order=True):
            line = line.drop_nulls("effect")
            x = line["features"].to_list()
            (drawn,) = axis.plot(x, line["effect"].to_list(), "o-", label=way)
            band(axis, x, line, "effect", drawn.get_color())
        whole = own.filter(vector="dense")
        axis.axhline(whole["effect"].item(), color="0.3", linestyle="--", label="dense")
        axis.axhline(0, color="0.8", linewidth=0.8)
        over_features(axis, rows["features"].drop_nulls().unique().sort().to_list())
    figure.supxlabel("features")
    figure.supylabel("held-out effect, nats per token")
    lines, _ = next(iter(axes.values())).get_legend_handles_labels()
    figure.legend(handles=lines, loc="outside right upper")
    return figure


def _by_layer(rows: pl.DataFrame) -> Figure:
    """Draw effects over layers, a line a behaviour; the SAE's feature vectors as stars."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for (name,), own in rows.group_by("behavior", maintain_order=True):
        dense = own.filter(vector="dense").sort("layer")
        x = dense["layer"].to_list()
        (line,) = axis.plot(x, dense["effect"].to_list(), "o-", label=name)
        band(axis, x, dense, "effect", line.get_color())
        features = own.filter(vector="mean feature differences")
        axis.plot(
            features["layer"].to_list(),
            features["effect"].to_list(),
            "*",
            color=line.get_color(),
            markersize=12,
        )
    axis.axhline(0, color="0.8", linewidth=0.8)
    axis.set_xlabel("layer; stars: the vector of all feature differences")
    axis.set_ylabel("held-out effect, nats per token")
    axis.legend(fontsize="small")
    return figure
