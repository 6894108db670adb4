"""Draw what `experiments.targets.study` measured, from its Parquet: no model, no torch.

python -m experiments.targets.table runs/targets/formality              # all of one behaviour
python -m experiments.targets.table runs/targets/*                      # several, side by side
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from matplotlib.figure import Figure

from experiments.tables import (
    Shown,
    interval,
    markdown,
    number,
    read_tables,
    save,
    spaced,
    titled,
)

FIGURE = "surrogates.svg"
CHOICE = "calibrated choice"
FIRST = ", under the dense vector alone"  # of surrogates on replies that were written anew later

TABLES = {
    "correlations": Shown(
        "Rank correlation with the behaviour rate: on the half of the vectors that chose, across "
        "tuning prompts, and on the other half and held-out questions",
        ("surrogate", "is"),
        ("calibration", "held_out", "held_out_other_judge"),
    ),
    "all_vectors": Shown(
        "Rank correlation over all vectors, nothing fitted",
        ("surrogate",),
        ("tune", "held_out", "held_out_other_judge"),
    ),
    "halvings": Shown(
        "Held-out rank correlation over random halves of the vectors: mean, 5th and 95th "
        "percentile, and how often a run would have picked it",
        ("surrogate", "picked"),
        ("mean",),
    ),
    "judges": Shown(
        "The judge beside one of another kind, over all replies; rates: rank correlation of both",
        ("judge", "accuracy", "other", "other_accuracy", "replies", "agreement", "kappa"),
        ("rates",),
    ),
}
NOT_SURROGATES = (
    "vector", "half", "multiplier", "cosine_to_dense", "rate_tune", "rate", "rate_other_judge",
)  # fmt: skip


def draw(out: Path) -> str:
    """Return every table of a folder and some replies as Markdown, and draw rates over effects.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, (*TABLES, "vectors", "replies"), "experiments.targets.study")
    save(_scatter(tables["vectors"]), out / FIGURE)
    shown = [titled(shown, tables[name]) for name, shown in TABLES.items()]
    return "\n".join([*shown, _answers(tables["vectors"], tables["replies"])])


def side_by_side(folders: Sequence[Path]) -> str:
    """Return what surrogates are worth on several behaviours as one Markdown table.

    Raises:
        SelectionError: a folder holds no measurements.
    """
    rows: dict[str, dict[str, str]] = {}
    for folder in folders:
        tables = read_tables(folder, TABLES, "experiments.targets.study")
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
        column = name["behavior"]
        for row in tables["all_vectors"].iter_rows(named=True):
            if not row["surrogate"].endswith(FIRST):
                cells = rows.setdefault(row["surrogate"], {"": spaced(row["surrogate"])})
                cells[column] = interval(row, "held_out")
        for row in tables["halvings"].iter_rows(named=True):
            if row["surrogate"] in ("learned", CHOICE):
                what = f"{row['surrogate']}, on the other half of the vectors"
                rows.setdefault(what, {"": what})[column] = interval(row, "mean")
        for row in tables["correlations"].iter_rows(named=True):
            if row["surrogate"].startswith("reliability"):
                rows.setdefault("last", {"": row["surrogate"]})[column] = interval(row, "held_out")
        judges = tables["judges"].row(0, named=True)
        agreed = f"{number(judges['agreement'])}, kappa {number(judges['kappa'])}"
        rows.setdefault("judges", {"": "two unlike judges agree"})[column] = agreed
    order = sorted(rows, key=lambda name: (name == "judges", name == "last", "half" in name))
    return markdown([rows[name] for name in order])


def draw_several(out: Path) -> str:
    """Return the table of a folder of several behaviours' results, and draw its figure.

    Raises:
        SelectionError: one of them holds no measurements.
    """
    folders = sorted(path.parent for path in out.glob("*/config.json"))
    correlations = {
        folder.name: read_tables(folder, TABLES, "experiments.targets.study")["all_vectors"]
        for folder in folders
    }
    save(_correlations(correlations), out / FIGURE)
    return side_by_side(folders)


def _answers(vectors: pl.DataFrame, replies: pl.DataFrame) -> str:
    """The answers to one question under the best, the median and the worst vector."""
    ranked = vectors.sort("rate", descending=True)["vector"].to_list()
    shown = ["unsteered", ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    asked = replies.filter(pl.col("asked") == "questions")
    question = str(asked["prompt"].first())
    some = asked.filter(pl.col("prompt") == question, pl.col("vector").is_in(shown))
    rows = [
        {"vector": row["vector"], "reply": row["reply"], "probability": number(row["probability"])}
        for row in some.iter_rows(named=True)
    ]
    return f"Answers to: {question}\n\n{markdown(rows)}"


def _correlations(tables: Mapping[str, pl.DataFrame]) -> Figure:
    """Draw every surrogate's rank correlation with its interval, a colour a behaviour."""
    names = [
        name
        for name in next(iter(tables.values()))["surrogate"].to_list()
        if not name.endswith(FIRST)
    ]
    figure = Figure(figsize=(7, 0.8 + 0.5 * len(names)), layout="constrained")
    axes = figure.subplots()
    for number_of, (behavior, table) in enumerate(tables.items()):
        rows = {row["surrogate"]: row for row in table.iter_rows(named=True)}
        known = [(place, rows[name]) for place, name in enumerate(names) if name in rows]
        x = [row["held_out"] for _, row in known]
        ends = [
            [abs(row[f"held_out_{end}"] - row["held_out"]) for _, row in known]
            for end in ("low", "high")
        ]
        y = [place + 0.15 * (number_of - (len(tables) - 1) / 2) for place, _ in known]
        axes.errorbar(x, y, xerr=ends, fmt="o", markersize=4, label=behavior)
    axes.axvline(0.9, color="0.6", linestyle="--", label="the goal")
    axes.set_yticks(range(len(names)), [spaced(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("rank correlation with the behaviour rate, over 40 vectors")
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def _scatter(vectors: pl.DataFrame) -> Figure:
    """Draw held-out rates over effects, a panel a surrogate."""
    names = [name for name in vectors.columns if name not in NOT_SURROGATES]
    columns = 3
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * lines), layout="constrained")
    for place, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, place + 1)
        for half, style in (("calibration", "o"), ("held out", "x")):
            some = vectors.filter(pl.col("half") == half)
            axes.plot(some[name].to_list(), some["rate"].to_list(), style, markersize=4, label=half)
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(spaced(name), fontsize="small")
    figure.supylabel("behaviour rate on held-out questions")
    figure.supxlabel("effect; circles: vectors that chose, crosses: the others")
    return figure


def main(
    out: Annotated[list[Path], typer.Argument(help="Folders of `experiments.targets.study`.")],
) -> None:
    """Print the tables and draw the figure of a folder again, or lay several side by side."""
    typer.echo(draw(out[0]) if len(out) == 1 else side_by_side(out))


if __name__ == "__main__":
    typer.run(main)
