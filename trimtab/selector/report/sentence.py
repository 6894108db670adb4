"""What a run found, in sentences that follow from its intervals.

Nothing is claimed that an interval does not carry: an effect whose interval includes zero is said
to be indistinguishable from it, a control that is not beaten clearly is said not to be, and where
the judge of replies is not reliable no behaviour rate is quoted at all. A judge may be right about
the pairs' completions and lost on replies: where another, unlike one hardly agrees, that is said.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from trimtab.selector.intervals import Estimate
from trimtab.selector.report.numbers import estimate, number

SLIGHT = 0.2  # Cohen's kappa up to which agreement is called slight (Landis and Koch 1977)
RANDOM = {"random_samples": "as many random samples", "random_features": "as many random features"}


def found(card: Mapping[str, Any]) -> str:
    """Return what was found and its effect, then what the model writes under it, in sentences."""
    return f"{_made(card)} {_written(card)}"


def how_many(learning: Mapping[str, Any]) -> str:
    """Return one sentence: how many samples would have been enough, by the learning curve."""
    share = f"{number(100 * learning['share'])} %"
    total = learning["points"][-1]["n"] if learning["points"] else 0
    needed = Estimate(**learning["needed"])
    if needed.value is None:
        return f"How many samples are needed cannot be said: {needed.reason}."
    sentence = (
        f"About {_count(needed)} random samples give {share} of the effect of all {number(total)}"
    )
    more = Estimate(**learning["needed_of_asymptote"])
    if more.value is None:
        return (
            f"{sentence}; how many would give {share} of what any number could is unknown: "
            f"{more.reason}."
        )
    return f"{sentence}; about {_count(more)} would give {share} of what any number could."


def _count(found: Estimate) -> str:
    """Return a number of samples with its interval, in whole samples."""
    value, low, high = (math.ceil(x or 0.0) for x in (found.value, found.low, found.high))
    return f"{number(value)} [{number(low)}, {number(high)}]"


def verdict(difference: Estimate) -> Literal["above", "below", "unclear"]:
    """Return on which side of zero an interval lies; "unclear" where it holds zero or is none."""
    if not difference.clear_of_zero or difference.value is None:
        return "unclear"
    return "above" if difference.value > 0 else "below"


def _made(card: Mapping[str, Any]) -> str:
    samples, features = card["samples"], card["features"]
    what = f"{number(samples['kept'])} of {number(samples['of'])} samples"
    if features["kept"] is not None:
        what += f" and {number(features['kept'])} of {number(features['of'])} SAE features"
    verb = "makes" if samples["kept"] == 1 and features["kept"] is None else "make"
    effect = Estimate(**card["held_out"]["effect"])
    return f"{what} {verb} a steering vector {_effect(effect)}{_kept(card, effect)}."


def _effect(effect: Estimate) -> str:
    if effect.value is None or effect.low is None:
        return f"whose effect on the held-out margin is {estimate(effect)}, so no effect is shown"
    match verdict(effect):
        case "above":
            return f"that raises the held-out margin by {estimate(effect)}, clear of zero"
        case "below":
            return f"that moves the held-out margin the wrong way, by {estimate(effect)}"
        case "unclear":
            return f"whose effect on the held-out margin, {estimate(effect)}, is not clear of zero"


def _kept(card: Mapping[str, Any], effect: Estimate) -> str:
    kept = Estimate(**card["held_out"]["faithfulness"])
    if kept.value is None:
        return f"; its faithfulness to the dense vector is undefined, because {estimate(kept)}"
    if verdict(effect) != "above" or verdict(kept) != "above":
        return f"; its faithfulness to the dense vector is {estimate(kept)}"
    only = "only " if kept.high is not None and kept.high < 1 else ""
    every = f"the dense vector of all {card['samples']['of']}"
    return f"; that is {only}{estimate(kept)} times the effect of {every}"


def _written(card: Mapping[str, Any]) -> str:
    held_out, judge = card["held_out"], card["judge"]
    if not held_out["n_questions"]:
        return (
            "No held-out question was asked, so nothing is known about what the model writes under "
            "it, or whether it beats the controls there."
        )
    if not judge["reliable"]:
        return (
            "Behaviour rates mean nothing here, because the judge of replies is not reliable "
            f"(accuracy {number(judge['accuracy'], 2)}): no claim is made about what the model "
            f"writes under it, or that it beats the controls there{_way_out(judge)}."
        )
    rate = Estimate(**held_out["behavior_rate"])
    beside = f"{_beside(card, 'unsteered')} and {_beside(card, 'dense_mean_difference')}"
    sentence = f"Its replies show the behaviour at a rate of {estimate(rate)}, {beside}"
    against = _against_random(card)
    sentence += f"; {against}." if against else "."
    return sentence + _little_to_keep(card) + _doubted(judge)


def _little_to_keep(card: Mapping[str, Any]) -> str:
    added = card.get("dense_beyond_unsteered")
    if added is None or verdict(Estimate(**added)) == "above":
        return ""
    return (
        " The dense vector’s own rate is not clearly above the unsteered model’s (difference "
        f"{estimate(Estimate(**added))}), so there was little to keep."
    )


def _doubted(judge: Mapping[str, Any]) -> str:
    second = judge.get("second")
    if second is None or second["kappa"] is None or second["kappa"] > SLIGHT:
        return ""
    agreed = estimate(Estimate(**second["agreement"]))
    return (
        f" Two judges of different kinds hardly agree on these replies (agreement {agreed}, kappa "
        f"{number(second['kappa'], 2)}), so the rates say little: read the replies, or let a "
        "language model judge (`--judge-model`)."
    )


def _way_out(judge: Mapping[str, Any]) -> str:
    return f"; {judge['way_out']}" if judge.get("way_out") else ""


def _beside(card: Mapping[str, Any], control: str) -> str:
    rate = estimate(Estimate(**card["controls"][control]["behavior_rate"]))
    name = "the unsteered model’s" if control == "unsteered" else "the dense vector’s"
    match verdict(Estimate(**card["behavior_rate_beyond"][control])):
        case "above":
            return f"clearly above {name} {rate}"
        case "below":
            return f"clearly below {name} {rate}"
        case "unclear":
            than = "above" if control == "unsteered" else "different from"
            return f"not clearly {than} {name} {rate}"


def _against_random(card: Mapping[str, Any]) -> str:
    said: list[tuple[str, str]] = []
    for control, name in RANDOM.items():
        if control not in card["behavior_rate_beyond"]:
            continue
        difference = Estimate(**card["behavior_rate_beyond"][control])
        how = verdict(difference)
        verb = {
            "above": "clearly beats",
            "below": "does clearly worse than",
            "unclear": "does not clearly beat",
        }[how]
        said.append((how, f"{verb} {name} (difference {estimate(difference)})"))
    if not said:
        return ""
    joint = " and " if len({how for how, _ in said}) == 1 else " but "
    return f"at equal damage it {joint.join(text for _, text in said)}"
