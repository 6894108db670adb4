"""Select, tune and report: what chooses a vector is never used to report it.

Groups are taken in the order of a hash of seed and name, so that neither the order of the samples
nor the version of a random generator matters, and each goes where most is still missing.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimtab.errors import PairsError
from trimtab.pairs.sample import Sample


@dataclass(frozen=True, slots=True)
class Splits:
    """Sample ids of the three parts, in the order of the samples."""

    select: list[str]
    tune: list[str]
    report: list[str]

    def to_json(self) -> dict[str, list[str]]:
        """The parts as a plain dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Splits":
        """The parts from `to_json`'s dict; raises `PairsError` when one is missing or no list."""
        names = list(cls.__dataclass_fields__)
        if set(data) != set(names) or not all(isinstance(data[name], list) for name in names):
            raise PairsError(f"splits hold the lists {', '.join(names)}, not {', '.join(data)}")
        return cls(**{name: [str(id) for id in data[name]] for name in names})


def split(
    samples: Sequence[Sample],
    seed: int,
    shares: tuple[float, float, float] = (0.5, 0.2, 0.3),
) -> Splits:
    """Split samples by group into parts of about the given shares (select, tune, report).

    Every part gets at least one group and misses its share of the samples by less than twice the
    largest group. Raises `PairsError` for fewer than
    three groups, samples without a group, and shares that are not positive.
    """
    if len(shares) != 3 or not all(share > 0 and math.isfinite(share) for share in shares):
        raise PairsError(f"shares must be three positive numbers, not {shares}")
    if ungrouped := [sample.id for sample in samples if not sample.group]:
        raise PairsError(f"{ungrouped[0]} has no group; call assign_groups first")
    sizes = Counter(sample.group for sample in samples)
    if len(sizes) < 3:
        raise PairsError(
            f"{len(sizes)} groups cannot be split into select, tune and report; at least 3 are"
            " needed, so add pairs with other prompts or name finer groups"
        )
    missing = [share / sum(shares) * len(samples) for share in shares]
    parts: dict[str, int] = {}
    for group in sorted(sizes, key=lambda group: _order(seed, group)):
        void = [part for part in range(3) if part not in parts.values()]
        must_fill = len(void) == len(sizes) - len(parts)
        part = max(void if must_fill else range(3), key=lambda part: missing[part])
        parts[group] = part
        missing[part] -= sizes[group]
    ids: list[list[str]] = [[], [], []]
    for sample in samples:
        ids[parts[sample.group]].append(sample.id)
    return Splits(*ids)


def _order(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{group}".encode()).digest()
