"""What the report shows, worked out from the card and the tables; nothing is drawn here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from trimtab.errors import ModelError
from trimtab.model.hook_points import parse_hook_point
from trimtab.selector.intervals import Estimate
from trimtab.selector.learning_curve import curve as curve_of
from trimtab.selector.report.numbers import number
from trimtab.selector.surrogates import SURROGATES

Card = Mapping[str, Any]
Row = dict[str, Any]

NAMES = {
    "minimal": "minimal vector",
    "unsteered": "unsteered",
    "dense_mean_difference": "dense vector",
    "full_sae": "full SAE vector",
    "strongest": "strongest vector",
    "random_samples": "random samples",
    "same_features": "same features",
    "random_features": "random features",
    "random_dictionary": "random dictionary",
    "random_direction": "random direction",
    "lexical": "first words",
    "prompting": "prompting",
}
SIDE_BY_SIDE = ("minimal", "unsteered", "dense_mean_difference")
STRONGEST = 6  # samples shown for and against
LARGEST = 15  # rows of the receipt
DISAGREED, OF_ONE_VECTOR = 6, 2  # replies shown on which two judges disagree


@dataclass(frozen=True)
class Measured:
    """A vector, what it does, by how much the minimal one's behaviour rate exceeds its own, and its
    divergence on neutral chats.

    `as_good` says how many of a random control's draws have at least the minimal one's rate.
    """

    name: str
    behavior_rate: Estimate
    effect: Estimate
    beyond: Estimate | None
    nats: Estimate | None
    repetition: float | None
    chats: Mapping[str, float] | None
    as_good: str = ""


def comparison(card: Card) -> list[Measured]:
    """Return the minimal vector and then every control, in the card's order."""

    def measured(key: str, outcome: Mapping[str, Any]) -> Measured:
        beyond = card["behavior_rate_beyond"].get(key)
        nats = outcome.get("nats")  # an earlier version knew no fluency
        return Measured(
            NAMES.get(key, key.replace("_", " ")),
            Estimate(**outcome["behavior_rate"]),
            Estimate(**outcome["effect"]),
            None if beyond is None else Estimate(**beyond),
            None if nats is None else Estimate(**nats),
            outcome.get("repetition"),
            outcome.get("chats"),
            _as_good(card["draws_as_good"].get(key)) if card["held_out"]["n_questions"] else "",
        )

    rows = [measured("minimal", card["held_out"])]
    return rows + [measured(key, outcome) for key, outcome in card["controls"].items()]


def strongest_found(card: Card) -> dict[str, Estimate] | None:
    """Return what the strongest finalist does held out; None where it is the exported vector."""
    found = card["strongest"]
    if found is None:
        return None
    keys = {"rate": "behavior_rate", "effect": "effect", "beyond": "behavior_rate_beyond_dense"}
    return {name: Estimate(**found[key]) for name, key in keys.items()}


def _as_good(draws: Mapping[str, int] | None) -> str:
    return "" if draws is None else f"{draws['behavior_rate']} of {draws['of']} draws as good"


@dataclass(frozen=True)
class Surrogate:
    """What one cheap measure said of the panel's vectors, and how well that ranks their rates."""

    key: str
    effects: list[float]
    rank_correlation: Estimate
    chosen: bool

    @property
    def name(self) -> str:
        """Its name in a table."""
        return self.key.replace("_", " ")

    @property
    def meaning(self) -> str:
        """What it is."""
        return SURROGATES.get(self.key, self.name)


def surrogates(card: Card) -> list[Surrogate]:
    """Return the surrogates that the panel measured."""
    target = card["target"]
    return [
        Surrogate(
            key,
            [row[key] for row in target["panel"]],
            Estimate(**found),
            key == target["trusted"],
        )
        for key, found in target["surrogates"].items()
    ]


def curve(curves: pl.DataFrame, of: str) -> tuple[list[tuple[int, float]], bool]:
    """Return a pruning curve's points, and whether they are faithfulness rather than plain effect.

    Plain effect stands in where the full vector had none to be faithful to.
    """
    some = curves.filter(pl.col("of") == of)
    relative = some["faithfulness"].null_count() == 0
    column = "faithfulness" if relative else "effect"
    return list(some.select("kept", column).iter_rows()), relative


@dataclass(frozen=True)
class Learning:
    """The learning curve: what was measured, what was fitted, and how many samples it takes."""

    points: list[tuple[int, Estimate]]
    fitted: list[tuple[float, float]]
    needed: float | None


def learning(card: Card) -> Learning | None:
    """Return the card's learning curve; None of a card that was written before there were any."""
    if "learning_curve" not in card:
        return None
    found = card["learning_curve"]
    points = [(point["n"], Estimate(**point["effect"])) for point in found["points"]]
    fitted: list[tuple[float, float]] = []
    if found["noise"] is not None:
        along = np.geomspace(points[0][0], points[-1][0], 60)
        effects = curve_of(along, found["asymptote"]["value"], found["noise"])
        fitted = list(zip(along.tolist(), effects.tolist(), strict=True))
    return Learning(points, fitted, found["needed"]["value"])


@dataclass(frozen=True)
class Point:
    """A measured choice of samples and features; no features stand for the dense vector."""

    method: str
    samples: int
    features: int | None
    effect: float
    front: bool
    chosen: bool

    @property
    def size(self) -> int:
        """Rows of its receipt: samples times features."""
        return self.samples * (self.features or 1)


def points(pareto: pl.DataFrame) -> list[Point]:
    """Return every point of the surface that was measured."""
    columns = ("method", "samples", "features", "effect", "front", "chosen")
    return [Point(**row) for row in pareto.select(columns).iter_rows(named=True)]


def strongest(samples: pl.DataFrame) -> tuple[list[Row], list[Row]]:
    """Return the samples for (most useful) and against (below zero, least useful first)."""
    judged = samples.filter(pl.col("usefulness").is_not_null())
    best = judged.filter(pl.col("usefulness") > 0).sort("usefulness", descending=True)
    worst = judged.filter(pl.col("usefulness") < 0).sort("usefulness")
    return best.head(STRONGEST).to_dicts(), worst.head(STRONGEST).to_dicts()


def side_by_side(replies: pl.DataFrame) -> list[tuple[str, list[Row]]]:
    """Return every question with the replies of the vectors `SIDE_BY_SIDE`, in that order."""
    by_vector = {key: replies.filter(pl.col("vector") == key).to_dicts() for key in SIDE_BY_SIDE}
    return [
        (rows[0]["question"], [{**row, "vector": NAMES[row["vector"]]} for row in rows])
        for rows in zip(*by_vector.values(), strict=True)
    ]


def judge_name(judge: Mapping[str, Any]) -> str:
    """Return what judged the replies, as the page names it."""
    name: str = judge.get("name") or f"text classifier by {judge['kind']}"
    return name


@dataclass(frozen=True)
class SecondOpinion:
    """A second judge's agreement with the first, and both judges' rates by vector."""

    name: str
    accuracy: float
    reliable: bool
    n_replies: int
    agreement: Estimate
    kappa: float | None
    rates: list[tuple[str, Estimate, Estimate]]


def second_opinion(judge: Mapping[str, Any]) -> SecondOpinion | None:
    """Return the second judge's part of the card; an earlier version asked none."""
    second = judge.get("second")
    if second is None:
        return None
    return SecondOpinion(
        second["name"],
        second["accuracy"],
        second["reliable"],
        second["n_replies"],
        Estimate(**second["agreement"]),
        second["kappa"],
        [
            (NAMES.get(key, key), Estimate(**rates["judge"]), Estimate(**rates["second"]))
            for key, rates in second["rates"].items()
        ],
    )


def disagreed(judged: pl.DataFrame | None) -> list[Row]:
    """Return a handful of replies that the two judges see differently, of unlike vectors."""
    if judged is None:
        return []
    unlike = judged.filter(pl.col("judge") != pl.col("second"))
    some = unlike.group_by("vector", maintain_order=True).head(OF_ONE_VECTOR).head(DISAGREED)
    return [{**row, "vector": NAMES.get(row["vector"], row["vector"])} for row in some.to_dicts()]


@dataclass(frozen=True)
class ReceiptExtract:
    """The largest rows of a receipt, each with the share summed so far, and the sum of them all."""

    rows: list[Row]
    n_rows: int
    total: float


def receipt_extract(receipt: pl.DataFrame, norm: float) -> ReceiptExtract:
    """Return the rows that give the vector most of its length `norm`."""
    ranked = receipt.sort(pl.col("contribution").abs(), descending=True).with_columns(
        so_far=pl.col("contribution").cum_sum() / norm
    )
    return ReceiptExtract(
        ranked.head(LARGEST).to_dicts(), len(receipt), float(receipt["contribution"].sum())
    )


def labels(features: pl.DataFrame | None) -> dict[int, str]:
    """Return the labels of features, by their numbers; none where there are none."""
    if features is None or "label" not in features.columns:
        return {}
    return dict(features.drop_nulls("label").select("feature", "label").iter_rows())


def why_not_gguf(hook_point: str) -> str | None:
    """Return why llama.cpp cannot apply a vector made for this hook point; None where it can."""
    try:
        point = parse_hook_point(hook_point)
    except ModelError as error:
        return str(error)
    before = point.site == "hook_resid_pre"
    if not before and point.site != "hook_resid_post":
        return f"llama.cpp adds vectors only to the output of whole blocks, not at {hook_point}"
    if point.layer - before < 1:
        return "llama.cpp takes no direction for block 0 or for what comes before it"
    return None


def how_it_was_made(card: Card) -> list[tuple[str, str]]:
    """Return the choices that made the vector, by name."""
    facts = {
        "model": card["model"],
        "SAE": card["sae"],
        "hook point": card["hook_point"],
        "operation": card["operation"],
        "positions": card["positions"],
        "pooling": card["pooling"],
        "multiplier": f"{number(card['multiplier'])} {card['unit_of_strength']}",
        "length of the stored vector": number(card["norm"]),
        "judge": _judged_by(card["judge"]),
        "samples to select, tune and report": ", ".join(
            number(len(card["splits"][part])) for part in ("select", "tune", "report")
        ),
        "held-out questions": number(card["held_out"]["n_questions"]),
    }
    facts |= {f"seed of {name}": str(seed) for name, seed in card["seeds"].items()}
    facts |= {f"setting: {name}": json.dumps(value) for name, value in card["settings"].items()}
    return [(name.replace("_", " "), str(fact)) for name, fact in facts.items()]


def _judged_by(judge: Mapping[str, Any]) -> str:
    accuracy, reliable = number(judge["accuracy"], 2), "" if judge["reliable"] else ", not reliable"
    if "measured_on" in judge:
        of = f"on {number(judge['measured_on'])} completions; asked for: {judge['criterion']}"
    else:
        of = f"on held-out groups of {number(judge['trained_on'])} texts"
    return f"{judge_name(judge)}, accuracy {accuracy}{reliable} {of}"
