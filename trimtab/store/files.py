"""Files that are there whole or not at all, and the locks that keep builders apart.

Two locks guard a store. `.lock` has one holder: who plans, sweeps or builds the catalog. `.workers`
is shared by everyone who writes shards without holding the first; nothing that they may be about
to move into place is swept away while one of them lives. The operating system lets go of a lock
when its holder dies, however that happens.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from trimtab.errors import StoreError

TEMPORARY = ".tmp"

READ_ONLY = 0o444


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write, flush to the disk, then rename: a reader sees the old file or the whole new one.

    Any number of processes may write one path at once: each has a temporary name of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
        temporary.chmod(mode)
        commit(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk this is what gives room again
        raise


def commit(temporary: Path, path: Path) -> None:
    """Flush a finished file and move it into place; the move itself outlives a power cut."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left; nobody may be writing into the folder meanwhile."""
    for leftover in folder.glob(f"*{TEMPORARY}"):
        leftover.unlink()


@contextmanager
def building(path: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the store at `path` for planning, sweeping and its catalog.

    Raises `StoreError` when another process still holds it after `patience` seconds.
    """
    with _opened(path, ".lock") as lock:
        deadline = time.monotonic() + patience
        while not _locked(lock, shared=False, wait=False):
            if time.monotonic() >= deadline:
                lock.seek(0)
                raise StoreError(
                    f"{path} is being built by another process ({lock.read().strip() or '?'});"
                    " wait for it to end, or build into another folder"
                )
            time.sleep(0.1)
        lock.truncate(0)
        lock.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        lock.flush()
        yield


@contextmanager
def working(path: Path) -> Iterator[None]:
    """Write shards of the store at `path` beside others who do."""
    with _opened(path, ".workers") as lock:
        _locked(lock, shared=True, wait=True)  # a sweep takes a moment
        yield


@contextmanager
def without_workers(path: Path) -> Iterator[bool]:
    """Keep workers away for a moment; False where some are at work."""
    with _opened(path, ".workers") as lock:
        yield _locked(lock, shared=False, wait=False)


def _opened(path: Path, name: str) -> TextIO:
    try:
        return (path / name).open("a+")
    except OSError as error:
        raise StoreError(f"{path} cannot be written to: {error.strerror}") from None


def _locked(lock: TextIO, *, shared: bool, wait: bool) -> bool:
    import fcntl  # not on every system, and readers do without

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(lock, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
