"""What a file's name tells: the behaviour, and the side of unpaired texts."""

import re
from pathlib import Path

from trimtab.pairs.sample import Side

_SIDES: dict[str, Side] = {
    "pos": "positive",
    "positive": "positive",
    "positives": "positive",
    "neg": "negative",
    "negative": "negative",
    "negatives": "negative",
}
# CAA calls its files generate_dataset.json, test_dataset_ab.json and test_dataset_open_ended.json.
_GENERIC = re.compile(
    "|generate|dataset|data|test|train|training|val|validation|valid|dev|eval|ab|open|ended"
    r"|pairs|samples|texts|examples|split|part|of|\d+",
    re.IGNORECASE,
)


def behavior_of(path: Path) -> str:
    """The file's name, or its folder's when the file's says nothing ("generate_dataset.json").

    Of a file that holds one side of unpaired texts, the word for the side is left out.
    """
    all_words = re.split(r"[\W_]+", path.stem)
    sided = path.suffix.lower() in (".pos", ".neg", ".txt")
    words = [word for word in all_words if not (sided and word.lower() in _SIDES)]
    if all(_GENERIC.fullmatch(word) for word in words):
        return path.resolve().parent.name or path.stem
    return path.stem if words == all_words else "-".join(words)


def side_of(path: Path) -> Side | None:
    """The side that a file's name tells; `None` when it tells none, or both."""
    words = re.split(r"[\W_]+", path.name.lower())
    sides = {_SIDES[word] for word in words if word in _SIDES}
    return sides.pop() if len(sides) == 1 else None
