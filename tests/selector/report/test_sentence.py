"""The sentence claims what the intervals carry, and no more."""

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.selector.intervals import Estimate
from trimtab.selector.report import found
from trimtab.selector.report.numbers import MINUS, estimate, number, places


def some(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


CARD: dict[str, Any] = {
    "samples": {"kept": 4, "of": 120},
    "features": {"kept": 12, "of": 1310},
    "held_out": {
        "effect": some(0.21, 0.17, 0.25),
        "faithfulness": some(0.97, 0.85, 1.1),
        "behavior_rate": some(0.8, 0.68, 0.88),
        "n_questions": 40,
    },
    "controls": {
        "unsteered": {"behavior_rate": some(0.1, 0.04, 0.23)},
        "dense_mean_difference": {"behavior_rate": some(0.84, 0.72, 0.91)},
    },
    "behavior_rate_beyond": {
        "unsteered": some(0.7, 0.55, 0.82),
        "dense_mean_difference": some(-0.04, -0.12, 0.05),
        "random_samples": some(0.3, 0.12, 0.48),
        "random_features": some(0.05, -0.03, 0.12),
    },
    "judge": {"kind": "words", "accuracy": 0.94, "reliable": True},
}


def card(**changes: Any) -> dict[str, Any]:
    """The card above with dotted names changed: held_out__effect=..."""
    changed = copy.deepcopy(CARD)
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = changed
        for folder in folders:
            place = place[folder]
        place[last] = value
    return changed


def test_it_says_all_of_it_in_two_sentences() -> None:
    assert found(CARD) == (
        "4 of 120 samples and 12 of 1,310 SAE features make a steering vector that raises the "
        "held-out margin by 0.21 [0.17, 0.25], clear of zero; that is 0.97 [0.85, 1.10] times the "
        "effect of the dense vector of all 120. Its replies show the behaviour at a rate of "
        "0.80 [0.68, 0.88], clearly above the unsteered model’s 0.10 [0.04, 0.23] and not clearly "
        "different from the dense vector’s 0.84 [0.72, 0.91]; at equal damage it clearly beats as "
        "many random samples (difference 0.30 [0.12, 0.48]) but does not clearly beat as many "
        f"random features (difference 0.05 [{MINUS}0.03, 0.12])."
    )


def test_where_the_dense_vector_adds_nothing_there_was_little_to_keep() -> None:
    added = some(0.12, -0.01, 0.26)
    assert found(card(dense_beyond_unsteered=added)).endswith(
        " The dense vector’s own rate is not clearly above the unsteered model’s (difference 0.12 "
        f"[{MINUS}0.01, 0.26]), so there was little to keep."
    )
    assert found(card(dense_beyond_unsteered=some(0.7, 0.5, 0.8))) == found(CARD)


def test_where_unlike_judges_hardly_agree_the_rates_are_doubted() -> None:
    second = {"agreement": some(0.5, 0.43, 0.58), "kappa": 0.01}
    assert found(card(judge__second=second)).endswith(
        " Two judges of different kinds hardly agree on these replies (agreement 0.50 "
        "[0.43, 0.58], kappa 0.01), so the rates say little: read the replies, or let a language "
        "model judge (`--judge-model`)."
    )
    for kappa in (0.6, None):  # None: both always said the same
        assert found(card(judge__second=second | {"kappa": kappa})) == found(CARD)


def test_an_effect_whose_interval_includes_zero_is_not_called_one() -> None:
    sentence = found(card(held_out__effect=some(0.02, -0.01, 0.05)))
    assert "is not clear of zero" in sentence
    assert "raises" not in sentence


def test_an_effect_the_wrong_way_is_called_that() -> None:
    sentence = found(card(held_out__effect=some(-0.2, -0.3, -0.1)))
    assert "the wrong way" in sentence
    assert "raises" not in sentence


def test_an_effect_without_an_interval_shows_nothing() -> None:
    effect = {"value": 0.4, "low": None, "high": None, "reason": "an interval needs two groups"}
    sentence = found(card(held_out__effect=effect))
    assert "an interval needs two groups" in sentence
    assert "no effect is shown" in sentence


def test_a_ratio_to_nothing_is_replaced_by_its_reason() -> None:
    nothing = {"value": None, "low": None, "high": None, "reason": "the dense interval has 0 in it"}
    sentence = found(card(held_out__faithfulness=nothing))
    assert "is undefined, because the dense interval has 0 in it." in sentence
    assert "times the effect of the dense vector" not in sentence


def test_less_than_the_dense_vector_is_said_with_only() -> None:
    sentence = found(card(held_out__faithfulness=some(0.5, 0.4, 0.6)))
    assert "only 0.50 [0.40, 0.60] times" in sentence


def test_replies_that_the_dense_vector_beats_are_said_to_be_below() -> None:
    beyond = some(-0.3, -0.4, -0.2)
    sentence = found(card(behavior_rate_beyond__dense_mean_difference=beyond))
    assert "clearly below the dense vector’s 0.84" in sentence


def test_without_an_sae_no_feature_is_spoken_of() -> None:
    beyond = {k: v for k, v in CARD["behavior_rate_beyond"].items() if k != "random_features"}
    dense = card(features={"kept": None, "of": None}, behavior_rate_beyond=beyond)
    assert found(dense).startswith("4 of 120 samples make a steering vector")
    assert "feature" not in found(dense)
    assert "1 of 120 samples makes a" in found({**dense, "samples": {"kept": 1, "of": 120}})


def test_an_unreliable_judge_silences_every_claim_about_replies() -> None:
    judge = {"kind": "words", "accuracy": 0.7, "reliable": False}
    sentence = found(card(judge=judge))
    assert "Behaviour rates mean nothing here" in sentence
    assert "0.70" in sentence
    assert "0.80" not in sentence
    assert "clearly" not in sentence


def test_an_unreliable_judge_is_told_with_the_way_out() -> None:
    judge = {"kind": "words", "accuracy": 0.7, "reliable": False, "way_out": "ask another"}
    assert found(card(judge=judge)).endswith("; ask another.")


def test_without_questions_nothing_is_said_of_replies() -> None:
    nothing = {"value": None, "low": None, "high": None, "reason": "nothing was counted"}
    sentence = found(card(held_out__n_questions=0, held_out__behavior_rate=nothing))
    assert "No held-out question was asked" in sentence
    assert "clearly" not in sentence


@st.composite
def intervals(draw: st.DrawFn) -> dict[str, Any]:
    low, value, high = sorted(draw(st.lists(st.floats(-1, 1), min_size=3, max_size=3)))
    return some(value, low, high)


@given(intervals())
def test_a_control_is_beaten_exactly_where_the_interval_lies_above_zero(
    beyond: dict[str, Any],
) -> None:
    sentence = found(card(behavior_rate_beyond__random_features=beyond))
    assert ("clearly beats as many random features" in _about_features(sentence)) == (
        beyond["low"] > 0
    )
    assert ("does clearly worse than as many random features" in sentence) == (beyond["high"] < 0)


def _about_features(sentence: str) -> str:
    return re.split(r" and | but ", sentence)[-1]


@given(intervals(), intervals(), intervals(), intervals(), st.booleans(), st.integers(0, 2))
def test_it_is_two_sentences_whatever_was_found(
    effect: dict[str, Any],
    kept: dict[str, Any],
    rate: dict[str, Any],
    beyond: dict[str, Any],
    reliable: bool,
    questions: int,
) -> None:
    sentence = found(
        card(
            held_out__effect=effect,
            held_out__faithfulness=kept,
            held_out__behavior_rate=rate,
            held_out__n_questions=questions,
            behavior_rate_beyond__random_samples=beyond,
            judge__reliable=reliable,
        )
    )
    assert len(re.findall(r"\.(?: |$)", sentence)) == 2
    assert ("raises the held-out margin" in sentence) == (effect["low"] > 0)


@pytest.mark.parametrize(
    ("found_estimate", "text"),
    [
        (Estimate(0.214, 0.171, 0.252), "0.21 [0.17, 0.25]"),
        (Estimate(0.0213, 0.0171, 0.0252), "0.021 [0.017, 0.025]"),
        (Estimate(-0.3, -0.5, 0.1), f"{MINUS}0.30 [{MINUS}0.50, 0.10]"),
        (Estimate(0.04, 0.003, 0.08), "0.040 [0.003, 0.080]"),
        (Estimate(0.0, 0.0, 0.0), "0.00 [0.00, 0.00]"),
        (Estimate(-0.001, -0.4, 0.4), f"0.00 [{MINUS}0.40, 0.40]"),
        (Estimate(None, reason="nothing was counted"), "nothing was counted"),
        (
            Estimate(0.5, reason="an interval needs two groups"),
            "0.50 (an interval needs two groups)",
        ),
    ],
)
def test_estimates_are_rounded_to_what_their_interval_carries(
    found_estimate: Estimate, text: str
) -> None:
    assert estimate(found_estimate) == text


@given(st.floats(0.0005, 0.2), st.floats(0, 1))
def test_a_bound_that_is_clear_of_zero_does_not_look_like_zero(low: float, width: float) -> None:
    text = estimate(Estimate(low + width / 2, low, low + width))
    assert float(text.split("[")[1].split(",")[0]) > 0


def test_plain_numbers_are_short_and_have_real_minus_signs() -> None:
    assert [number(x) for x in (0.1, 6.5312, -0.00123, 1310, 0, None, float("nan"))] == [
        "0.1", "6.53", f"{MINUS}0.00123", "1,310", "0", "–", "–",
    ]  # fmt: skip
    assert places([0.012, -0.4, None]) == 3
    assert places([1234.5]) == 0
    assert places([]) == 0
