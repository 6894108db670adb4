"""Labels of features by a language model: it is shown where a feature is strongest, and names it.

Automated interpretability as in Bills et al. (2023), with the strongest contexts alone. Contexts
are untrusted: they are quoted between lines that hold a mark which none of them can hold.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab.model.endpoint import AT_ONCE, FILTERED
from trimtab.model.features.descriptions import visible
from trimtab.model.prompt_template import prompt_template

TEMPLATE = "label.j2"
LONGEST = 120  # letters of a label

Ask = Callable[[Sequence[str]], list[str]]
"""Takes prompts and returns an answer to each; see `trimtab.model.endpoint.Connection.ask`."""


def ask_for_labels(
    rows: Sequence[Mapping[str, Any]], ask: Ask, *, at_once: int = AT_ONCE
) -> Iterator[dict[int, str]]:
    """Yield labels by feature, some features at a time; an empty answer gives none.

    Args:
        rows: of `descriptions.SCHEMA`; those without a context are passed over, with no label.
        ask: asks a language model.
        at_once: how many features are asked about before their labels are handed over.

    Raises:
        EndpointError: as `ask` does.
    """
    shown = [row for row in rows if row["contexts"]]
    for start in range(0, len(shown), at_once):
        some = shown[start : start + at_once]
        answers = ask([prompt(row) for row in some])
        labels = {row["feature"]: read(one) for row, one in zip(some, answers, strict=True)}
        yield {feature: label for feature, label in labels.items() if label}


def prompt(row: Mapping[str, Any]) -> str:
    """Return what is asked about a feature, from its row of `descriptions.SCHEMA`."""
    return _TEMPLATE.render(
        contexts=row["contexts"],
        tokens=_listed(shown["token"] for shown in row["tokens"]),
        promotes=_listed(row["promotes"]),
        mark=hashlib.sha256(json.dumps(row["contexts"]).encode()).hexdigest()[:16],
    )


def read(answer: str) -> str:
    """Return the label that an answer gives: its last line, without quotes and thought.

    "" where it gives none.
    """
    if answer == FILTERED:
        return ""
    _, _, said = answer.rpartition("</think>")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    label = lines[-1].strip("\"'“”«». ") if lines and "<think>" not in said else ""
    return visible(label)[:LONGEST]


def _listed(tokens: Iterable[str]) -> str:
    """Quote tokens so that none of them ends a line or the list; letters stay as they are."""
    return json.dumps(list(tokens), ensure_ascii=False)


_TEMPLATE = prompt_template(Path(__file__).with_name(TEMPLATE))
