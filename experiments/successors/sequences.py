"""Sequences whose items have an index: packaged ones that teach, and those of files to test on."""

import json
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import SelectionError

LEAST = 5  # items of a sequence that is tested on

_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_MONTHS = "January February March April May June July August September October November December"


@dataclass(frozen=True)
class Ordered:
    """A sequence.

    Attributes:
        name: what its items are.
        kind: sequences of one kind name the same things; none of them teaches another's indices
            unless that is said.
        items: as they are written, in order.
        first: index of the first item.
        cyclic: whether the first item follows the last.
    """

    name: str
    kind: str
    items: tuple[str, ...]
    first: int = 1
    cyclic: bool = False

    @property
    def title(self) -> str:
        """Its ends, which tell spellings of one sequence apart."""
        return f"{self.items[0]} … {self.items[-1]}"

    @property
    def indices(self) -> range:
        """The indices of its items."""
        return range(self.first, self.first + len(self.items))

    def item(self, index: int) -> str | None:
        """Return the item at an index, around the ends where it is cyclic; None beyond an end."""
        place = index - self.first
        if self.cyclic:
            return self.items[place % len(self.items)]
        return self.items[place] if 0 <= place < len(self.items) else None


PACKAGED = (
    Ordered("number words", "numbers", tuple(_WORDS.split())),
    Ordered("digits", "numbers", tuple(map(str, range(1, 25)))),
    Ordered("Roman numerals", "numbers", tuple(_ROMAN.split())),
    Ordered("days", "days", tuple(_DAYS.split()), cyclic=True),
    Ordered("months", "months", tuple(_MONTHS.split()), cyclic=True),
    Ordered("letters", "letters", tuple(string.ascii_uppercase)),
    Ordered("double letters", "letters", tuple(2 * letter for letter in string.ascii_uppercase)),
)


def read_sequences(following: Path, preceding: Path) -> list[Ordered]:
    """Join the pairs of two lists, of what follows an item and of what precedes it, to sequences.

    They are JSON lists of `{"input", "output"}`, the tasks of function vectors (Todd et al. 2023).
    What both lists tell is told once; sequences of fewer than `LEAST` items are passed over.

    Raises:
        SelectionError: one is no such list, or nothing in them is long enough.
    """
    pairs = _read_pairs(following), [(before, after) for after, before in _read_pairs(preceding)]
    found = [recognised(chain) for some in pairs for chain in chains(some)]
    long = [sequence for sequence in found if len(sequence.items) >= LEAST]
    if not long:
        raise SelectionError(
            f"{following} and {preceding} hold no sequence of {LEAST} items; its pairs must stand "
            "in their order, each beginning with what the one before it ends with"
        )
    return list(dict.fromkeys(long))


def _read_pairs(file: Path) -> list[tuple[str, str]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        pairs = [(row["input"].strip(), row["output"].strip()) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = 'a JSON list of {"input": "...", "output": "..."}'
        raise SelectionError(f"{file} is not {what}: {error!r}") from error
    if not all(before and after for before, after in pairs):
        raise SelectionError(f"{file}: an input or output is empty; give both, or neither")
    return pairs


def chains(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Join pairs at their ends, each to the last chain that ends with what it begins with.

    A chain that comes round to its first item ends with it, and takes no more. An item may be in
    several, as `i` is a letter and a numeral.
    """
    found: list[list[str]] = []
    for before, after in pairs:
        open_ends = [chain for chain in found if chain[-1] == before and after not in chain[1:]]
        if open_ends and before != open_ends[-1][0]:
            open_ends[-1].append(after)
        else:
            found.append([before, after])
    return [tuple(chain) for chain in found]


def recognised(chain: tuple[str, ...]) -> Ordered:
    """Return a chain as a sequence, named and numbered as the packaged one it has most items of.

    One that shares less than half of its items with any is of a kind of its own, and counts from 1.
    """
    cyclic = chain[0] == chain[-1]
    items = chain[:-1] if cyclic else chain
    votes = Counter(
        (packaged, index - place)
        for packaged in PACKAGED
        for index, known in zip(packaged.indices, packaged.items, strict=True)
        for place, item in enumerate(items)
        if item.casefold() == known.casefold()
    )
    if votes:
        (packaged, first), count = votes.most_common(1)[0]
        if 2 * count >= len(items):
            return Ordered(packaged.name, packaged.kind, items, first, cyclic)
    return Ordered(items[0], items[0], items, cyclic=cyclic)
