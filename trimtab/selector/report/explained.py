"""The page of an explained vector, and the same in a few sentences. Needs no model, no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from trimtab.errors import VectorError
from trimtab.selector.exported.folder import read_explanation, tables
from trimtab.selector.intervals import Estimate
from trimtab.selector.report import figures
from trimtab.selector.report.numbers import estimate, number
from trimtab.selector.report.page import environment, write_page
from trimtab.selector.report.sentence import verdict

REPORT = "report.html"
SHOWN = ("vector", "unsteered", "dense_mean_difference")  # whose replies stand side by side
QUOTED = 16  # features of which the sentence speaks, or the most there are below
FEATURES = 40  # rows of the page's table
NAMES = {
    "vector": "the vector",
    "its_negative": "its negative",
    "dense_mean_difference": "dense vector of the pairs",
    "random_direction": "random direction",
    "lexical": "first words",
}
WAYS = {
    "pursuit": "matching pursuit",
    "encoder": "as the encoder says",
    "encoder, least squares": "the encoder’s, refitted",
    "random direction": "pursuit of a random direction",
}


def render_explanation(folder: Path) -> Path:
    """Write `report.html` into a folder that `trimtab explain` wrote, and return its path.

    Raises:
        VectorError: the folder holds no explanation.
    """
    card = read_explanation(folder)
    if card is None:
        raise VectorError(
            f"{folder} holds no explanation of a vector; `trimtab explain` writes one"
        )
    files = tables(folder)
    features = pl.read_parquet(files["features"]).to_dicts() if "features" in files else []
    replies = _side_by_side(pl.read_parquet(files["replies"])) if "replies" in files else []
    page = environment().get_template("explanation.html.j2")
    filled = page.render(
        card=card,
        sentences=said(card),
        effects=effects(card),
        explained=explained(card),
        ways=WAYS,
        features=features[:FEATURES],
        replies=replies,
        anti=Estimate(**card["anti_steerable_fraction"]) if "effects" in card else None,
        figure=_figures(card),
    )
    return write_page(filled, folder / REPORT)


def name_of(vector: str) -> str:
    """Return what people call one of the card's vectors."""
    return NAMES.get(vector, vector.replace("_", " "))


def effects(card: Mapping[str, Any]) -> list[tuple[str, Estimate, Estimate, Estimate]]:
    """Return name, behaviour rate, margin effect, and the vector's effect beyond it, row by row."""
    return [
        (
            name_of(name),
            Estimate(**row["behavior_rate"]),
            Estimate(**row["effect"]),
            Estimate(**row["effect_beyond"]),
        )
        for name, row in card.get("effects", {}).items()
    ]


def explained(card: Mapping[str, Any]) -> dict[int, dict[str, dict[str, float]]]:
    """Return cosine and norm by number of features and way; nothing without an SAE."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    for row in card["decomposition"] or ():
        found.setdefault(row["features"], {})[row["way"]] = row
    return dict(sorted(found.items()))


def said(card: Mapping[str, Any]) -> list[str]:
    """Return what was found, in sentences that claim nothing that an interval does not carry."""
    own = card["damage"]["at_own_strength"]
    sentences = [
        f"At its own strength (multiplier {number(own['multiplier'])}) it does "
        f"{number(own['kl_mean'])} nats of damage per token; at multiplier "
        f"{number(card['multiplier'])} it does {number(card['damage']['budget'])}."
    ]
    by_size = {
        size: row
        for size, row in explained(card).items()
        if size <= QUOTED and {"pursuit", "random direction"} <= row.keys()
    }
    if by_size:
        size, row = max(by_size.items())
        mine, chance = row["pursuit"]["cosine"], row["random direction"]["cosine"]
        sentences.insert(
            0,
            f"{size} SAE features reach a cosine of {number(mine, 2)} with it; as many reach "
            f"{number(chance, 2)} with a random direction, which is what chance gives.",
        )
    elif card["sae"] != "none":
        sentences.insert(0, "No SAE feature points anywhere near it.")
    if "effects" in card:
        sentences += _measured(card)
    return sentences


def _measured(card: Mapping[str, Any]) -> list[str]:
    rows = card["effects"]
    effect = Estimate(**rows["vector"]["effect"])
    how = {
        "above": "raises the held-out margin by",
        "below": "moves the held-out margin the wrong way, by",
        "unclear": "has an effect on the held-out margin that is not clear of zero,",
    }[verdict(effect)]
    against = []
    for name in ("dense_mean_difference", "random_direction"):
        if name in rows:
            difference = Estimate(**rows[name]["effect_beyond"])
            clear = {
                "above": "clearly more",
                "below": "clearly less",
                "unclear": "not clearly more",
            }
            than = (
                "the dense vector of the pairs" if name.startswith("dense") else "random directions"
            )
            against.append(f"{clear[verdict(difference)]} than {than}")
    compared = f": {', and '.join(against)}" if against else ""
    sentences = [f"At that damage it {how} {estimate(effect)}{compared}."]
    judge = card["judge"]
    if not judge["reliable"]:
        sentences.append(
            "Behaviour rates mean nothing here: the judge of replies is not reliable (accuracy "
            f"{number(judge['accuracy'], 2)})."
        )
    elif card["held_out"]["n_questions"]:
        rates = {n: estimate(Estimate(**rows[n]["behavior_rate"])) for n in ("vector", "unsteered")}
        sentences.append(
            f"Its replies show {card['behavior']} at a rate of {rates['vector']}, unsteered ones "
            f"at {rates['unsteered']}."
        )
    sentences.append(_who_chose(card.get("left_out")))
    return sentences


def _who_chose(left_out: Mapping[str, int] | None) -> str:
    """Say whether the vector was chosen on what it is measured on."""
    if left_out is None:
        return (
            "Only the vector’s maker knows whether these pairs took part in making it; if they "
            "did, its figures look better than they are."
        )
    told = "By the vector’s own record, none of these pairs or questions took part in choosing it"
    if not any(left_out.values()):
        return f"{told}."
    return (
        f"{told}. Left out because they did, or share a group with one that did: pairs "
        f"{number(left_out['pairs'])}, questions {number(left_out['questions'])}."
    )


def _side_by_side(replies: pl.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    rows = [replies.filter(pl.col("vector") == name).to_dicts() for name in SHOWN]
    shown = [of_vector for of_vector in rows if of_vector]
    return [
        (asked[0]["question"], [{**row, "vector": name_of(row["vector"])} for row in asked])
        for asked in zip(*shown, strict=True)
    ]


def _figures(card: Mapping[str, Any]) -> dict[str, Markup]:
    rows = effects(card)
    damage = card["damage"]
    lines = {
        WAYS[way]: [
            (size, row[way]["cosine"]) for size, row in explained(card).items() if way in row
        ]
        for way in WAYS
    }
    drawn = {
        "decomposition": figures.explained(lines, control=WAYS["random direction"]),
        "rates": figures.forest(
            [(n, rate) for n, rate, _, _ in rows], "behaviour rate", share=True
        ),
        "effects": figures.forest([(n, e) for n, _, e, _ in rows], "margin effect", share=False),
        "damage": figures.damage(
            [(point["multiplier"], point["kl_mean"]) for point in damage["curve"]],
            multiplier=card["multiplier"],
            kl=damage["kl_mean"],
            budget=damage["budget"],
        ),
    }
    return {name: Markup(svg) for name, svg in drawn.items()}
