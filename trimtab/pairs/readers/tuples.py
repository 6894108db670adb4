"""Pairs that are already in Python."""

from collections.abc import Iterable

from trimtab.pairs.readers.collect import collect
from trimtab.pairs.readers.jsonl import pair
from trimtab.pairs.readers.rows import Row
from trimtab.pairs.sample import Sample


def from_tuples(triples: Iterable[tuple[str, str, str]], behavior: str) -> list[Sample]:
    """Samples from `(prompt, positive, negative)`; an empty prompt makes raw texts.

    Raises `PairsError` naming the tuple, counted from 1.
    """
    read = []
    for number, triple in enumerate(triples, start=1):
        row = Row(f"tuple {number}", {"behavior": behavior})
        if len(triple) != 3:
            raise row.error(f"expected (prompt, positive, negative), not {len(triple)} values")
        fields = dict(zip(("prompt", "positive", "negative"), triple, strict=True))
        row = Row(row.where, {**row.values, **fields})
        read.append((row, pair(row)))
    return collect(read)
