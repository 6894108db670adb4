"""Common concepts and the classes they belong to, as everybody would say it."""

import csv
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "concepts"
TEXTS = ("We spoke of {}", "The word is {}", "Tell me about {}", "A page about {}")
"""Texts that end with a concept's last token, where it is read."""


@dataclass(frozen=True)
class Domain:
    """Concepts of one sort.

    Attributes:
        name: of the sort.
        concepts: n words.
        classes: by attribute, the class of each concept; the first attribute is the main one.
    """

    name: str
    concepts: tuple[str, ...]
    classes: dict[str, tuple[str, ...]]


def read_domains() -> list[Domain]:
    """Read the packaged lists: a line a concept, a column an attribute."""
    domains = []
    for file in sorted(FOLDER.glob("*.tsv")):
        with file.open(encoding="utf-8", newline="") as opened:
            header, *rows = csv.reader(opened, delimiter="\t")
        concepts, *columns = zip(*rows, strict=True)
        classes = dict(zip(header[1:], columns, strict=True))
        domains.append(Domain(file.stem, concepts, classes))
    return domains
