"""How much of the disk a build will take, judged by its first shard, before it takes it."""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from trimtab.errors import StoreError

CATALOG = 1.5
"""Bytes that the catalog takes for a byte of shards, while the old one still lies beside it."""

MARGIN = 1.1


def check_room(to_come: Mapping[Path, int]) -> None:
    """Refuse a build whose shards still `to_come`, in bytes by store, do not fit with the catalog.

    Raises:
        StoreError: names the disk's room and what is needed.
    """
    by_disk: dict[int, list[Path]] = defaultdict(list)
    for path in to_come:
        by_disk[path.stat().st_dev].append(path)
    for paths in by_disk.values():
        needed = round(MARGIN * (1 + CATALOG) * sum(to_come[path] for path in paths))
        free = shutil.disk_usage(paths[0]).free
        if needed > free:
            raise StoreError(
                f"{_names(paths)} will need about {gigabytes(needed)} more, catalog included, but"
                f" the disk has {gigabytes(free)} left. Make room, use fewer pairs or --values"
                " bfloat16, or build elsewhere; what has been built is kept"
            )


def gigabytes(n: float) -> str:
    """Say a number of bytes as a person would."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:,.3g} GB"


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(str(path) for path in paths)
