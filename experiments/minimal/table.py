"""Draw what `experiments.minimal.study` measured, from its cards and Parquet: no model, no torch.

python -m experiments.minimal.table runs/minimal
"""

import json
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from matplotlib.figure import Figure

from experiments.tables import estimate, interval, markdown, number, plain, save, spaced
from trimtab.errors import SelectionError

FIGURE = "behavior_rates.svg"
DRAWN = ("minimal", "unsteered", "dense_mean_difference", "random_samples", "prompting")
"""Vectors in the figure."""

SCORES = (
    ("LDS of sample attribution on the pairs that it scored", "samples", "scored", "halves"),
    ("LDS of sample attribution on held-out pairs", "samples", "held_out", "halves"),
    (
        "The same at equal damage, over 10 half-subsets, on the pairs that were scored",
        *("samples", "scored", "halves at equal damage"),
    ),
    ("LDS of feature attribution on the pairs that it scored", "features", "scored", "halves"),
    ("LDS of cell attribution on the pairs that it scored", "cells", "scored", "halves"),
)
"""Title, unit, pairs and subsets of the tables of attribution."""

FEW_SAMPLES, FEW_FEATURES = 0.1, 20

Card = dict[str, Any]


def draw(out: Path) -> str:
    """Return the tables of a folder as Markdown, and draw the behaviour rates.

    Raises:
        SelectionError: the folder holds no vector.
    """
    cards = {
        path.parent.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(out.glob("*/vector/card.json"))
    }
    if not cards:
        raise SelectionError(f"{out} has no vectors; `experiments.minimal.study` makes them")
    facts = {
        name: json.loads((out / name / "behavior.json").read_text(encoding="utf-8"))
        for name in cards
    }
    attributed = {name: out / name / "attribution" for name in cards}
    attributed = {n: path for n, path in attributed.items() if (path / "config.json").exists()}
    save(_rates(cards), out / FIGURE)
    tables = {
        "What was kept, and what stands for what the model writes": [
            _kept(name, card, facts[name], _chosen(out / name)) for name, card in cards.items()
        ],
        "Behaviour rate of replies to held-out questions, at equal damage, prompting aside, which "
        "has none; intervals over questions and draws": _beside(cards, "behavior_rate"),
        "The minimal vector's rate less a control's, over the same questions; of the random "
        "controls, how many draws reach its rate": _beyond(cards),
        "Effect on the margin of held-out pairs, nats per token, at equal damage, prompting "
        "aside": _beside(cards, "effect"),
        f"Largest effect on the target of a method's choices of at most {FEW_SAMPLES:.0%} of the "
        f"samples and {FEW_FEATURES} features, as a share of the dense vector's where that has a "
        "clear held-out effect; on the pairs and replies that chose, so no proof": _methods(
            cards, out
        ),
        "Damage on neutral chats, nats per token; on plain text it is 0.1": _chats(cards),
        "Share of held-out pairs whose margin falls as the multiplier grows": [
            {"behaviour": name}
            | {
                vector: _interval(card["anti_steerable_fraction"][when])
                for vector, when in (("dense", "before"), ("minimal", "after"))
            }
            for name, card in cards.items()
        ],
    }
    if attributed:
        for title, unit, where, subsets in SCORES:
            tables[title] = _lds(attributed, unit, where, subsets)
        tables["Poisoned pairs found among as many suspects, judged by clean pairs"] = _recall(
            attributed
        )
        tables[
            "Held-out effect at equal damage with a tenth of the pairs flipped, as a share of the "
            "clean vector's where that is clear"
        ] = _recovery(attributed)
        tables[
            "Pairs that go the wrong way under the vector, training pairs dropped or re-weighted"
        ] = _repair(attributed)
    return "\n".join(f"{title}.\n\n{markdown(rows)}" for title, rows in tables.items() if rows)


def _kept(name: str, card: Card, facts: Card, method: str) -> dict[str, str]:
    target, judge, learning = card["target"], card["judge"], card["learning_curve"]
    strongest, quality = card["strongest"], facts["quality"]
    second = judge["second"]
    kappa = "one answer" if second["kappa"] is None else f"kappa {number(second['kappa'])}"
    return {
        "behaviour": name,
        "samples": f"{card['samples']['kept']} of {card['samples']['of']}",
        "features": plain(card["features"]["kept"]),
        "found by": method,
        "samples for 95 % of the effect": _interval(learning["needed"]),
        "target": spaced(target["name"]),
        "its rank correlation": _interval(target["rank_correlation"]),
        "ceiling": _interval(target["ceiling"]),
        "judge's accuracy": f"{number(judge['accuracy'])} ({judge['kind']})",
        "second judge agrees": f"{_interval(second['agreement'])}, {kappa}",
        "strongest's rate": "the same"
        if strongest is None
        else _interval(strongest["behavior_rate"]),
        "sides told by the first word": number(quality["first_word_accuracy"]),
        "open with one word: positive, negative": ", ".join(
            number(quality[f"same_opening_{side}"]) for side in ("positive", "negative")
        ),
        "minutes": f"{card['seconds'] / 60:.0f}",
    }


def _chosen(folder: Path) -> str:
    table = pl.read_parquet(folder / "vector" / "pareto.parquet")
    return str(table.filter("chosen")["method"].first())


def _methods(cards: dict[str, Card], out: Path) -> list[dict[str, str]]:
    """Return a row a method: what the best of its small choices does, as a share of the dense."""
    rows: dict[str, dict[str, str]] = {}
    for name, card in cards.items():
        table = pl.read_parquet(out / name / "vector" / "pareto.parquet")
        curves = pl.read_parquet(out / name / "vector" / "curves.parquet")
        if card["controls"]["dense_mean_difference"]["effect"]["low"] <= 0:
            continue
        dense = float(curves.filter(of="samples")["effect"].first())  # type: ignore[arg-type]
        few = max(1, int(FEW_SAMPLES * card["samples"]["of"]))
        small = table.filter(pl.col("samples") <= few, pl.col("features") <= FEW_FEATURES)
        best = small.group_by("method", maintain_order=True).agg(pl.col("effect").max())
        for method, effect in best.iter_rows():
            cells = rows.setdefault(method, {"method": method})
            cells[name] = number(effect / dense)
    return list(rows.values())


def _controls(cards: dict[str, Card]) -> list[str]:
    """Return the controls' names; every card has all of them, in one order."""
    return list(next(iter(cards.values()))["controls"])


def _beside(cards: dict[str, Card], what: str) -> list[dict[str, str]]:
    """Return a row a vector, a column a behaviour."""
    return [
        {"vector": spaced(vector)}
        | {
            name: _interval(
                (card["held_out"] if vector == "minimal" else card["controls"][vector])[what]
            )
            for name, card in cards.items()
        }
        for vector in ("minimal", *_controls(cards))
    ]


def _beyond(cards: dict[str, Card]) -> list[dict[str, str]]:
    rows = []
    for control in _controls(cards):
        row = {"control": spaced(control)}
        for name, card in cards.items():
            row[name] = _interval(card["behavior_rate_beyond"].get(control))
            as_good = card["draws_as_good"].get(control)
            if as_good is not None and as_good["behavior_rate"] is not None:
                row[name] += f"; {as_good['behavior_rate']} of {as_good['of']}"
        rows.append(row)
    return rows


def _chats(cards: dict[str, Card]) -> list[dict[str, str]]:
    rows = []
    for vector in ("minimal", *_controls(cards)):
        row = {"vector": spaced(vector)}
        for name, card in cards.items():
            found = card["held_out"] if vector == "minimal" else card["controls"][vector]
            row[name] = number(found["chats"]["mean"]) if found.get("chats") else ""
        rows.append(row)
    return [row for row in rows if any(row[name] for name in cards)]


def _lds(folders: dict[str, Path], unit: str, where: str, subsets: str) -> list[dict[str, str]]:
    """Return a row an estimator; last how well half of the pairs stand for the other half."""
    rows: dict[str, dict[str, str]] = {}
    for name, folder in folders.items():
        table = pl.read_parquet(folder / "lds.parquet")
        for row in table.filter(unit=unit, subsets=subsets).iter_rows(named=True):
            if found := interval(row, f"lds_{where}"):
                cells = rows.setdefault(row["estimator"], {"estimator": spaced(row["estimator"])})
                cells[name] = found
            halves = rows.setdefault("halves", {"estimator": "reliability of the pairs, by halves"})
            halves[name] = interval(row, f"ceiling_{where}")
    halves = rows.pop("halves")
    return [*rows.values(), *([halves] if any(halves[name] for name in folders) else [])]


def _recall(folders: dict[str, Path]) -> list[dict[str, str]]:
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for name, folder in folders.items():
        table = pl.read_parquet(folder / "recall.parquet")
        for row in table.iter_rows(named=True):
            how = f"{row['kind']} {row['share']:.0%}"
            shown = {"estimator": spaced(row["estimator"]), "poison": how}
            cells = rows.setdefault((row["estimator"], how), shown)
            cells[name] = interval(row, "recall")
    return list(rows.values())


def _recovery(folders: dict[str, Path]) -> list[dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for name, folder in folders.items():
        table = pl.read_parquet(folder / "recovery.parquet")
        for row in table.drop_nulls("of_clean").iter_rows(named=True):
            cells = rows.setdefault(row["vector"], {"vector": spaced(row["vector"])})
            cells[name] = interval(row, "of_clean")
    return list(rows.values())


def _repair(folders: dict[str, Path]) -> list[dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for name, folder in folders.items():
        table = pl.read_parquet(folder / "anti_steering.parquet")
        for row in table.filter(pairs="held_out").iter_rows(named=True):
            kind, _, remedy = row["vector"].partition(": ")
            cells = rows.setdefault(kind, {"vector": kind})
            cells[name] = " ".join(filter(None, (remedy, interval(row, "wrong_way"))))
    return list(rows.values())


def _interval(found: Card | None) -> str:
    return "" if found is None else estimate(found["value"], found["low"], found["high"])


def _rates(cards: dict[str, Card]) -> Figure:
    """Draw, for each behaviour, the minimal vector's rate and its controls' with intervals."""
    figure = Figure(figsize=(8, 0.9 + 0.62 * len(cards)), layout="constrained")
    axes = figure.subplots()
    for place, vector in enumerate(DRAWN):
        for row, card in enumerate(cards.values()):
            source = card["held_out"] if vector == "minimal" else card["controls"].get(vector)
            rate = None if source is None else source["behavior_rate"]
            if rate is None or rate["value"] is None:
                continue
            errors = [[rate["value"] - rate["low"]], [rate["high"] - rate["value"]]]
            axes.errorbar(
                rate["value"],
                row + 0.12 * (place - (len(DRAWN) - 1) / 2),
                xerr=errors,
                fmt="o" if vector == "minimal" else ".",
                color=f"C{place}",
                label=spaced(vector) if row == 0 else None,
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
