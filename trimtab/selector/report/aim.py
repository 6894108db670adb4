"""What a run aimed at and how well that stood for the behaviour rate, in a few sentences."""

from collections.abc import Mapping
from typing import Any

from trimtab.selector.intervals import Estimate
from trimtab.selector.report.numbers import estimate
from trimtab.selector.surrogates import BEHAVIOR_RATE, FLOOR, TARGETS


def aimed(card: Mapping[str, Any]) -> str:
    """Return what the run aimed at, its rank correlation with its ceiling, and what became of it.

    Nothing is said of a rank correlation that could not be measured but why.
    """
    target = card["target"]
    asked = ", as requested" if card["settings"]["target"] else ""
    said = f"The run aimed at {TARGETS[target['name']]}{asked}{_guided(target)}"
    found = Estimate(**target["rank_correlation"])
    if found.value is None:
        return f"{said}; {found.reason}."
    over = f"over {len(target['panel'])} unlike vectors"
    said += f", whose rank correlation with the behaviour rate {over}, across prompts, is "
    said += estimate(found)
    if not asked:
        n = len(target["surrogates"])
        said += f" (the best of {n} surrogates on these vectors, so an optimistic figure)"
    ceiling = Estimate(**target["ceiling"])
    if ceiling.value is not None:
        said += f"; the reliability of the rates themselves is {estimate(ceiling)}"
    sentences = [f"{said}.", *_changes(target["history"])]
    if found.value < FLOOR and target["name"] != BEHAVIOR_RATE:
        sentences.append(
            "That is too low to rely on: `--target behavior-rate` measures every candidate by "
            "what the model writes."
        )
    return " ".join(sentences)


def _guided(target: Mapping[str, Any]) -> str:
    if target["name"] != BEHAVIOR_RATE:
        return ""
    return f", along the gradient of {TARGETS[target['trusted']]}"


def _changes(history: list[Mapping[str, Any]]) -> list[str]:
    return [f"The target changed {row['at']}: {row['why']}." for row in history if row["why"]]
