"""Draw what `experiments.minimal.study` measured, from its cards and Parquet: no model, no torch.

python -m experiments.minimal.table runs/minimal
"""

import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import polars as pl
import typer
from matplotlib.figure import Figure

from trimtab.errors import SelectionError

FIGURE = "behavior_rates.svg"
SHOWN = ("unsteered", "dense_mean_difference", "random_samples", "random_features", "prompting")
ESTIMATORS = ("first_order", "jackknife", "cosine", "norm")

Card = dict[str, Any]


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw the behaviour rates.

    Raises:
        SelectionError: the folder holds no vector.
    """
    cards = {
        path.parent.parent.name: json.loads(path.read_text())
        for path in sorted(out.glob("*/vector/card.json"))
    }
    if not cards:
        raise SelectionError(f"{out} has no vectors; `experiments.minimal.study` makes them")
    facts = {name: json.loads((out / name / "behavior.json").read_text()) for name in cards}
    attributed = {
        name: out / name / "attribution"
        for name in cards
        if (out / name / "attribution" / "config.json").exists()
    }
    with matplotlib.rc_context({"svg.hashsalt": "trimtab", "svg.fonttype": "none"}):
        _rates(cards).savefig(out / FIGURE, metadata={"Date": None})
    tables = [
        "Behaviour rate of replies to held-out questions, all vectors at equal damage\n",
        _markdown([_rate_row(name, card) for name, card in cards.items()]),
        "\nEffect on the margin of held-out pairs, nats per token\n",
        _markdown([_effect_row(name, card) for name, card in cards.items()]),
        "\nWhat the runs rest on\n",
        _markdown([_run_row(name, card, facts[name]) for name, card in cards.items()]),
    ]
    if attributed:
        tables += [
            "\nAttribution of samples: LDS over half-subsets on scored and held-out pairs, recall"
            " of flipped pairs\n",
            _markdown([_attribution_row(name, path) for name, path in attributed.items()]),
        ]
    return "\n".join(tables) + "\n"


def _rate_row(name: str, card: Card) -> dict[str, str]:
    row = {
        "behaviour": name,
        "samples": f"{card['samples']['kept']} of {card['samples']['of']}",
        "features": str(card["features"]["kept"]) if card.get("features") else "dense",
        "minimal": _interval(card["held_out"]["behavior_rate"]),
    }
    for control in (*SHOWN, "lexical", "full_sae", "random_direction"):
        row[control.replace("_", " ")] = _interval(
            card["controls"].get(control, {}).get("behavior_rate")
        )
    row["beyond random samples"] = _interval(card["behavior_rate_beyond"].get("random_samples"))
    return row


def _effect_row(name: str, card: Card) -> dict[str, str]:
    row = {"behaviour": name, "minimal": _interval(card["held_out"]["effect"])}
    for control in ("dense_mean_difference", "random_samples", "random_features", "lexical"):
        row[control.replace("_", " ")] = _interval(card["controls"].get(control, {}).get("effect"))
    row["faithfulness"] = _interval(card["held_out"]["faithfulness"])
    row["anti-steerable, dense"] = _interval(card["anti_steerable_fraction"]["before"])
    row["minimal's"] = _interval(card["anti_steerable_fraction"]["after"])
    return row


def _run_row(name: str, card: Card, facts: Card) -> dict[str, str]:
    target, judge, quality = card["target"], card["judge"], facts["quality"]
    openings = quality["first_word_accuracy"]
    return {
        "behaviour": name,
        "samples": str(facts["samples"]),
        "sides told by the first word": "" if openings is None else f"{openings:.2f}",
        "judge": f"{judge['kind']}, {judge['accuracy']:.2f}",
        "target": str(target["name"]).replace("_", " "),
        "rank correlation": _number(target["rank_correlation"]),
        "minutes": f"{card['seconds'] / 60:.0f}",
    }


def _attribution_row(name: str, folder: Path) -> dict[str, str]:
    lds = pl.read_parquet(folder / "lds.parquet").filter(
        (pl.col("unit") == "samples") & (pl.col("subsets") == "halves")
    )
    recall = pl.read_parquet(folder / "recall.parquet").filter(pl.col("kind") == "flip")
    row = {"behaviour": name}
    for estimator in ESTIMATORS:
        found = lds.filter(pl.col("estimator") == estimator)
        if not found.is_empty():
            first = found.row(0, named=True)
            row[f"LDS {estimator.replace('_', ' ')}"] = (
                f"{first['lds_scored']:.2f} / {_number(first['lds_held_out'])}"
            )
        hits = recall.filter(pl.col("estimator") == estimator)
        if not hits.is_empty():
            row[f"recall {estimator.replace('_', ' ')}"] = (
                f"{float(hits['recall'].to_numpy().mean()):.2f}"
            )
    return row


def _markdown(rows: list[dict[str, str]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns), *([row.get(c, "") for c in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".replace("-", "−")


def _interval(estimate: Card | None) -> str:
    if estimate is None or estimate.get("value") is None:
        return ""
    value, low, high = (_number(estimate.get(key)) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if low else value


def _rates(cards: dict[str, Card]) -> Figure:
    """Draw, for each behaviour, the minimal vector's rate and its controls' with intervals."""
    figure = Figure(figsize=(8, 0.9 + 0.62 * len(cards)), layout="constrained")
    axes = figure.subplots()
    vectors = ("minimal", *SHOWN)
    for number, vector in enumerate(vectors):
        for row, card in enumerate(cards.values()):
            source = card["held_out"] if vector == "minimal" else card["controls"].get(vector)
            rate = None if source is None else source["behavior_rate"]
            if rate is None or rate["value"] is None:
                continue
            errors = [[rate["value"] - rate["low"]], [rate["high"] - rate["value"]]]
            axes.errorbar(
                rate["value"],
                row + 0.12 * (number - (len(vectors) - 1) / 2),
                xerr=errors,
                fmt="o" if vector == "minimal" else ".",
                color=f"C{number}",
                label=vector.replace("_", " ") if row == 0 else None,
            )
    axes.set_yticks(range(len(cards)), list(cards))
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("behaviour rate of replies to held-out questions, equal damage")
    axes.legend(fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def main(out: Annotated[Path, typer.Argument(help="Folder of the study.")]) -> None:
    """Write the tables into `tables.md` of the folder, and print them."""
    tables = draw(out)
    (out / "tables.md").write_text(tables, encoding="utf-8")
    typer.echo(tables)


if __name__ == "__main__":
    typer.run(main)
