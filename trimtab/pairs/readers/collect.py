"""From rows that were read to samples that can be used: ids, sides and groups over all files."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from trimtab.errors import PairsError
from trimtab.pairs.groups import assign_groups
from trimtab.pairs.readers.rows import Row
from trimtab.pairs.sample import Sample


def collect(read: Sequence[tuple[Row, Sample]]) -> list[Sample]:
    """Give missing ids and groups, and refuse ids that come twice and sides that cannot be used.

    A missing id is `<behavior>-<number>`, where the number counts that behaviour's samples over all
    files in the order given: a file that is added at the end changes none.
    """
    counts: Counter[str] = Counter()
    places: dict[str, str] = {}
    samples = []
    for row, sample in read:
        counts[sample.behavior] += 1
        id = sample.id or f"{sample.behavior}-{counts[sample.behavior]:04d}"
        if id in places:
            raise row.error(
                f"the id {id!r} is taken by {places[id]}; change one, or leave the ids out"
            )
        places[id] = row.where
        samples.append(replace(sample, id=id))
    _check_sides(samples)
    return assign_groups(samples)


def _check_sides(samples: Sequence[Sample]) -> None:
    kinds: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for sample in samples:
        kinds[sample.behavior].add(tuple(side for side, _ in sample.sides))
    for behavior, found in kinds.items():
        if len(found) == 1 and (only := next(iter(found))) != ("positive", "negative"):
            raise PairsError(
                f"{behavior}: every text is {only[0]}; a contrast needs both sides, so give the"
                " other side's file or rows too"
            )
        if len(found) > 1 and ("positive", "negative") in found:
            raise PairsError(
                f"{behavior}: pairs and unpaired texts are mixed; give one kind another behavior"
            )
