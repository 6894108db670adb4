"""Draw what `experiments.pictures` measured, from its Parquet: no model, no torch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.tables import (
    Shown,
    estimate,
    interval,
    markdown,
    number,
    plain,
    read_tables,
    save,
    spaced,
    titled,
)

TABLES = ("points", "nodes", "edges", "numbers", "distances", "covers", "steering")
EVERY = "all"
SIDES = {"positive": "#b2182b", "negative": "#2166ac"}
CONTROLS = {"steered": "random direction", "ablated": "random features ablated"}
BEFORE: dict[str, Any] = {"marker": "o", "markersize": 3, "ls": "", "alpha": 0.5}
AFTER: dict[str, Any] = {"marker": "x", "markersize": 4, "ls": ""}
CONTROL: dict[str, Any] = {"marker": ".", "markersize": 3, "ls": "", "color": "0.6"}
KEY: dict[str, Any] = {"fontsize": "small", "ncols": 3, "frameon": False}
UNKNOWN = "0.85"
GRADES = matplotlib.colormaps["viridis"]
HUES = matplotlib.colormaps["tab20"]

NUMBERS = "What each colour says of where completions lie, beside labels that were dealt out anew"
EACH = "The same of every behaviour by itself"
DISTANCES = "How far mapper graphs are apart, beside labels that were dealt out anew"
COVERS = Shown(
    "Mapper graphs of all completions, with coarser and finer covers",
    ("space", "cubes", "nodes", "edges", "pieces", "covered"),
)
STEERING = Shown(
    "How far held-out completions move at a later layer, as a share of the way from the mean of "
    "the negative sides to that of the positive ones",
    ("behavior", "state", "damage"),
    ("way", "beyond_control"),
)

Colours = Mapping[str, Callable[[Mapping[str, Any]], Any]]  # of a row of points or nodes


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw its figures.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.pictures")
    points, numbers, distances = tables["points"], tables["numbers"], tables["distances"]
    names = points["behavior"].unique().sort().to_list()
    hues = {name: HUES((2 * i + 2 * i // 20) % 20) for i, name in enumerate(names)}
    for picture, file in {"PCA": "pca", "t-SNE": "tsne"}.items():
        rows = points.filter(picture=picture)
        save(_picture(rows, numbers, picture, hues, _dots), out / f"{file}.svg")
    nodes = partial(_nodes, tables["edges"])
    save(_picture(tables["nodes"], numbers, "mapper", hues, nodes), out / "mapper.svg")
    later = points.filter(picture="before and after")
    if len(later):
        save(_before_and_after(later, tables["steering"]), out / "steering.svg")
    by, each = ("space", "picture", "colour", "measure"), pl.col("behavior") != EVERY
    compared = ("space", "behavior", "compared", "measure")
    return "\n".join(
        (
            _beside_chance(NUMBERS, numbers.filter(~each), by, "value"),
            _beside_chance(EACH, numbers.filter(each), ("behavior", *by), "value"),
            _beside_chance(DISTANCES, distances, compared, "distance"),
            titled(STEERING, tables["steering"]),
            titled(COVERS, tables["covers"]),
        )
    )


def _beside_chance(title: str, table: pl.DataFrame, columns: Sequence[str], value: str) -> str:
    """Return a table of numbers and of what they are by chance; it says which are no more."""
    rows = [
        {spaced(name): plain(row[name]) for name in columns}
        | {value: interval(row, value)}
        | {"by chance": estimate(row["chance"], row["chance_low"], row["chance_high"])}
        | {"p": plain(row["p"]), "": "" if row["beyond_chance"] else "not beyond chance"}
        for row in table.iter_rows(named=True)
    ]
    return f"{title}.\n\n{markdown(rows)}"


def _picture(
    rows: pl.DataFrame,
    numbers: pl.DataFrame,
    picture: str,
    hues: Mapping[str, Any],
    show: Callable[[Axes, pl.DataFrame, Sequence[Any]], None],
) -> Figure:
    """Draw a row of panels a space, a panel a colour, each under its number."""
    colours: Colours = {
        "behaviour": lambda row: hues[row["behavior"]],
        "side": _side,
        "influence": lambda row: UNKNOWN if row["influence"] is None else GRADES(row["influence"]),
    }
    spaces = rows["space"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(10, 3.4 * len(spaces) + 0.6), layout="constrained")
    axes = figure.subplots(len(spaces), len(colours), squeeze=False)
    for across, space in zip(axes, spaces, strict=True):
        here = rows.filter(space=space)
        for axis, (name, colour) in zip(across, colours.items(), strict=True):
            show(axis, here, [colour(row) for row in here.iter_rows(named=True)])
            axis.set_title(_said(numbers, space, picture, name), fontsize="small")
            axis.set_xticks([])
            axis.set_yticks([])
    keys = {"behaviour": hues, "side": {f"{side} side": hue for side, hue in SIDES.items()}}
    for axis, key in zip(axes[-1], keys.values(), strict=False):
        handles = [Line2D([], [], marker="o", ls="", color=key[name], label=name) for name in key]
        axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), **KEY)
    scale = axes[-1, -1].inset_axes((0, -0.08, 1, 0.03))
    bar = figure.colorbar(ScalarMappable(cmap=GRADES), cax=scale, orientation="horizontal")
    bar.set_label("rank of influence in its behaviour; grey: not known", fontsize="small")
    return figure


def _said(numbers: pl.DataFrame, space: str, picture: str, colour: str) -> str:
    """Return a panel's title: what its number is, and whether chance alone says as much."""
    title = f"{space}, by {colour}"
    found = numbers.filter(space=space, picture=picture, colour=colour, behavior=EVERY).to_dicts()
    if not found:
        return title
    row = found[0]
    return f"{title}\n{row['measure']} {number(row['value'])}, {_verdict(row)}"


def _way(row: Mapping[str, Any]) -> str:
    low, high = row["beyond_control_low"], row["beyond_control_high"]
    clear = low is not None and (low > 0 or high < 0)
    return f"way {interval(row, 'way')}, {'' if clear else 'not '}clear of its control"


def _verdict(row: Mapping[str, Any]) -> str:
    return f"{'' if row['beyond_chance'] else 'not beyond chance, '}p = {number(row['p'])}"


def _side(row: Mapping[str, Any]) -> Any:
    """A node's colour is between those of the sides, by the share of positive ones in it."""
    if "side" in row:
        return SIDES[row["side"]]
    return matplotlib.colormaps["RdBu_r"](0.1 + 0.8 * row["positive"])


def _dots(axis: Axes, rows: pl.DataFrame, colours: Sequence[Any]) -> None:
    axis.scatter(rows["x"], rows["y"], c=colours, s=5, linewidths=0)


def _nodes(edges: pl.DataFrame, axis: Axes, rows: pl.DataFrame, colours: Sequence[Any]) -> None:
    """Draw a mapper graph; a node's area is the number of its points."""
    place = {row["node"]: (row["x"], row["y"]) for row in rows.iter_rows(named=True)}
    if edges.height:  # a table without rows has no columns either
        own = edges.filter(space=rows["space"][0])
        lines = [(place[a], place[b]) for a, b in zip(own["one"], own["other"], strict=True)]
        axis.add_collection(LineCollection(lines, colors="0.75", linewidths=0.6, zorder=0))
    sizes = 120 * rows["points"] / rows["points"].max()
    axis.scatter(rows["x"], rows["y"], c=colours, s=sizes, edgecolors="0.3", linewidths=0.4)


def _before_and_after(rows: pl.DataFrame, moved: pl.DataFrame) -> Figure:
    """Draw a row of panels a behaviour: steered, and ablated, beside unsteered and the control."""
    names = rows["behavior"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(9, 2.9 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(CONTROLS), squeeze=False)
    for across, name in zip(axes, names, strict=True):
        for axis, (state, control) in zip(across, CONTROLS.items(), strict=True):
            for drawn, style in ((control, CONTROL), ("unsteered", BEFORE), (state, AFTER)):
                for side, hue in SIDES.items():
                    own = rows.filter(behavior=name, state=drawn, side=side)
                    color = style.get("color", hue)
                    axis.plot(own["x"], own["y"], **{**style, "color": color})
            (row,) = moved.filter(behavior=name, state=state).to_dicts()
            axis.set_title(f"{name}, {state}\n{_way(row)}", fontsize="small")
            axis.set_xticks([])
            axis.set_yticks([])
    handles = [
        Line2D([], [], **{**style, "color": hue}, label=f"{side} side, {when}")
        for when, style in (("before", BEFORE), ("after", AFTER))
        for side, hue in SIDES.items()
    ]
    handles.append(Line2D([], [], **CONTROL, label="control"))
    figure.legend(handles=handles, loc="outside right upper", fontsize="small")
    return figure
