"""Files that are there whole or not at all, and the lock that keeps a store to one builder."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trimtab.errors import StoreError

TEMPORARY = ".tmp"


def write_atomically(path: Path, data: bytes) -> None:
    """Write, flush to the disk, then rename: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        file.write(data)
    commit(temporary, path)


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


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Hold the store at `path` for writing. Raises `StoreError` while another process holds it.

    The operating system lets go of the lock when its holder dies, however that happens.
    """
    import fcntl

    try:
        file = (path / ".lock").open("a+")
    except OSError as error:
        raise StoreError(f"{path} cannot be written to: {error.strerror}") from None
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StoreError(
                f"{path} is being built by another process ({lock.read().strip() or 'unknown'});"
                " wait for it to end, or build into another folder"
            ) from None
        lock.truncate(0)
        lock.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        lock.flush()
        yield
