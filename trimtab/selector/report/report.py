"""Render the report from an exported folder alone: its card, its tables, and no model."""

from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import UndefinedError
from markupsafe import Markup

from trimtab.errors import VectorError
from trimtab.selector.exported.folder import CARD, OPTIONAL, TABLES, read_card, tables
from trimtab.selector.intervals import Estimate
from trimtab.selector.report import contents, figures
from trimtab.selector.report.aim import aimed
from trimtab.selector.report.page import environment, write_page
from trimtab.selector.report.sentence import found, how_many

REPORT = "report.html"


def render_report(folder: Path, name: str | None = None) -> Path:
    """Write `report.html` into an exported folder, over an earlier one, and return its path.

    `name` is what the folder will be called, where that is not its name.

    Raises:
        VectorError: the folder is no exported vector, lacks a table, or is of another version.
    """
    card = read_card(folder)
    frames = _frames(folder)
    try:
        page = (
            environment()
            .get_template("report.html.j2")
            .render(_shown(name or folder.name, card, frames))
        )
    except (KeyError, TypeError, UndefinedError, pl.exceptions.ColumnNotFoundError) as error:
        raise VectorError(
            f"{folder / CARD} or a table beside it lacks what the report needs ({error}): it was "
            "written by another version of trimtab, or changed; run `trimtab select` again"
        ) from error
    return write_page(page, folder / REPORT)


def reply_to_show(folder: Path) -> dict[str, str] | None:
    """Return the first held-out question with the steered and the unsteered reply; None without."""
    replies = contents.side_by_side(pl.read_parquet(tables(folder)["replies"]))
    if not replies:
        return None
    question, (steered, unsteered, _) = replies[0]
    return {
        "question": question,
        "unsteered": unsteered["reply"],
        "steered": steered["reply"],
    }


def _frames(folder: Path) -> dict[str, pl.DataFrame]:
    files = tables(folder)
    missing = [name for name in TABLES if name not in files and name not in OPTIONAL]
    if missing:
        raise VectorError(
            f"{folder} lacks {missing[0]}.parquet, which its report needs; restore it, or run "
            "`trimtab select` again"
        )
    frames = {}
    for name, file in files.items():
        try:
            frames[name] = pl.read_parquet(file)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise VectorError(f"{file} cannot be read: {error}") from error
    return frames


def _shown(name: str, card: dict[str, Any], frames: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """Return what the template is filled with."""
    samples = frames["samples"]
    features = frames.get("features")
    best, worst = contents.strongest(samples)
    return {
        "card": card,
        "folder": name,
        "sentence": found(card),
        "rows": contents.comparison(card),
        "strongest": contents.strongest_found(card),
        "judge": contents.judge_name(card["judge"]),
        "second": contents.second_opinion(card["judge"]),
        "disagreed": contents.disagreed(frames.get("judged")),
        "surrogates": contents.surrogates(card),
        "aimed": aimed(card),
        "origin": next(iter(frames["pareto"].filter("chosen")["origin"]), None),
        "anti_steerable": {k: Estimate(**v) for k, v in card["anti_steerable_fraction"].items()},
        "faithfulness": Estimate(**card["held_out"]["faithfulness"]),
        "faithfulness_rate": Estimate(**card["held_out"]["faithfulness_behavior_rate"]),
        "best": best,
        "worst": worst,
        "kept": samples.filter("kept").sort("usefulness", descending=True).to_dicts(),
        "against": samples.filter(pl.col("usefulness") < 0).height,
        "judged": samples["usefulness"].count(),
        "texts": {row["sample_id"]: row for row in samples.drop("direction").iter_rows(named=True)},
        "features": None if features is None else features.drop("direction").to_dicts(),
        "labels": contents.labels(features),
        "replies": contents.side_by_side(frames["replies"]),
        "receipt": contents.receipt_extract(frames["receipt"], card["norm"]),
        "how_many": how_many(card["learning_curve"]) if "learning_curve" in card else None,
        "why_not_gguf": contents.why_not_gguf(card["hook_point"]),
        "how": contents.how_it_was_made(card),
        "figure": _figures(card, frames),
    }


def _figures(card: dict[str, Any], frames: dict[str, pl.DataFrame]) -> dict[str, Any]:
    rows = contents.comparison(card)
    damage = card["damage"]
    points = contents.points(frames["pareto"])
    drawn = {
        "rates": figures.forest(
            [(row.name, row.behavior_rate) for row in rows], "behaviour rate", share=True
        ),
        "effects": figures.forest(
            [(row.name, row.effect) for row in rows], "margin effect", share=False
        ),
        "surface": figures.surface(
            points, label="samples" if card["features"]["kept"] is None else "samples × features"
        ),
        "plane": figures.plane(points),
        "damage": figures.damage(
            [(point["multiplier"], point["kl_mean"]) for point in damage["curve"]],
            multiplier=card["multiplier"],
            kl=damage["kl_mean"],
            budget=damage["budget"],
        ),
        "ranks": figures.ranks(
            list(
                frames["samples"].drop_nulls("usefulness").select("usefulness", "kept").iter_rows()
            )
        ),
    }
    if (learnt := contents.learning(card)) is not None:
        drawn["learning"] = figures.learning(learnt.points, learnt.fitted, needed=learnt.needed)
    for of in ("samples", "features"):
        kept, relative = contents.curve(frames["curves"], of)
        drawn[of] = figures.curve(
            kept,
            of=of,
            label="faithfulness" if relative else "effect on the target",
            floor=card["settings"]["tolerance"] if relative else None,
            chosen=card[of]["kept"],
        )
    rates = [row["behavior_rate"] for row in card["target"]["panel"]]
    surrogates = [
        figures.surrogate(s.effects, rates, name=s.name, chosen=s.chosen)
        for s in contents.surrogates(card)
    ]
    return {
        **{name: Markup(svg) for name, svg in drawn.items()},
        "surrogates": [Markup(svg) for svg in surrogates],
    }
