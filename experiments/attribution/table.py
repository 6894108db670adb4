"""Draw what `experiments.attribution.study` measured, from its Parquet: no model, no torch.

python -m experiments.attribution.table runs/attribution
"""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from matplotlib.figure import Figure

from experiments.tables import Shown, read_tables, save, spaced, titled

FIGURE = "brittleness.svg"

TABLES = {
    "lds": Shown(
        "Linear datamodeling score over random subsets, at one fixed multiplier; the ceiling is "
        "the split-half reliability, Spearman-Brown corrected; cost in forward passes",
        ("unit", "subsets", "n_subsets", "estimator", "cost"),
        ("lds_scored", "ceiling_scored", "lds_held_out", "ceiling_held_out"),
    ),
    "brittleness": Shown(
        "Held-out effect after the top samples are dropped",
        ("estimator", "dropped"),
        ("effect",),
    ),
    "recall": Shown(
        "Poisoned pairs among as many suspects; intervals over seeds",
        ("kind", "share", "estimator"),
        ("recall",),
    ),
    "recovery": Shown(
        "Held-out effect with flipped pairs, every vector at equal damage",
        ("share", "vector"),
        ("effect", "of_clean"),
    ),
    "anti_steering": Shown(
        "Pairs that go the wrong way, and the mean slope, at equal damage",
        ("pairs", "vector"),
        ("wrong_way", "slope"),
    ),
}


def draw(out: Path) -> str:
    """Return every table of a folder as Markdown, and draw the brittleness curves.

    Raises:
        SelectionError: the folder holds no measurements.
    """
    tables = read_tables(out, TABLES, "experiments.attribution.study")
    save(_curves(tables["brittleness"]), out / FIGURE)
    return "\n".join(titled(shown, tables[name]) for name, shown in TABLES.items())


def _curves(rows: pl.DataFrame) -> Figure:
    """Draw one line an estimator, random drops dashed with their interval."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for (name,), points in rows.group_by("estimator", maintain_order=True):
        share = (points["dropped"] / points["n"]).to_list()
        random = name == "random"
        axes.plot(share, points["effect"].to_list(), "k--" if random else "-", label=spaced(name))
        if random and points["effect_low"].null_count() == 0:
            low, high = points["effect_low"].to_list(), points["effect_high"].to_list()
            label = "random, 95 % over held-out pairs"
            axes.fill_between(share, low, high, color="0.9", label=label)
    axes.set_xlabel("share of the samples dropped, top first")
    axes.set_ylabel("held-out effect, nats per token")
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def main(
    out: Annotated[Path, typer.Argument(help="Folder of `experiments.attribution.study`.")],
) -> None:
    """Print the tables and draw the figure again."""
    typer.echo(draw(out))


if __name__ == "__main__":
    typer.run(main)
