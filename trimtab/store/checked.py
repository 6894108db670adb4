"""Checksums of a store's files, remembered: opening a store reads again only what has changed.

What is remembered is beside the store's files, for every process, and in this process where the
store cannot be written. Losing it costs time and nothing else.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from trimtab.store.files import write_atomically

CHECKED = "checked.json"

Seen = tuple[str, int, int]
"""A file's sha-256, in hex, and the size and time of change, in ns, at which it had that."""

_seen: dict[Path, dict[str, Seen]] = {}


def checksum(file: Path) -> str:
    """Sha-256, in hex, of what a file holds now. Raises `OSError` where it cannot be read."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def checksums(store: Path, names: Iterable[str]) -> dict[str, str]:
    """Sha-256, in hex, of files by their names relative to `store`; without those that it lacks.

    A file is read where its size or time of change is not that at which it was last read.
    """
    store = store.absolute()
    before = _read(store / CHECKED) | _seen.get(store, {})
    now = {}
    for name in names:
        with suppress(OSError):
            stat = (store / name).stat()
            old = before.get(name, ("", -1, -1))
            stamp = stat.st_size, stat.st_mtime_ns
            now[name] = old if old[1:] == stamp else (checksum(store / name), *stamp)
    if not now.items() <= before.items():
        _seen[store] = before | now
        with suppress(OSError):
            write_atomically(store / CHECKED, json.dumps(_seen[store], indent=1).encode())
    return {name: seen[0] for name, seen in now.items()}


def _read(file: Path) -> dict[str, Seen]:
    try:
        return {
            name: (str(sha256), int(size), int(changed))
            for name, (sha256, size, changed) in json.loads(file.read_bytes()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
