"""Bounds on a whole process, for one that does nothing but answer a query.

DuckDB does not count the strings and lists that a single expression makes: `repeat('x', 1e9)` over
some thousand rows would take the machine down before any limit of its own is met. Where the
operating system refuses the memory instead, DuckDB ends the query with an error. Nor does DuckDB
interrupt a single call, as of `list_sort(range(20000000))`: the process has to end.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

from trimtab.store.reading.sandbox import TIMEOUT

MEMORY = 8 << 30
"""Bytes for a query and its result: more than the sandbox allows DuckDB."""

SECONDS = TIMEOUT + 10
"""Of a query and of handing over its result: after what the sandbox allows DuckDB."""

_STATUS = Path("/proc/self/status")


@contextmanager
def limited_memory(more: int = MEMORY) -> Iterator[None]:
    """Let this process reserve at most `more` bytes beyond what it has.

    Does nothing where the operating system has no such limit, or does not say what is reserved.
    """
    try:
        import resource

        lines = _STATUS.read_text().splitlines()
    except (ImportError, OSError):
        yield
        return
    (reserved,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize"))
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([reserved + more, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def limited_time(seconds: float = SECONDS) -> Iterator[None]:
    """End this process, with one line on stderr and exit code 1, where the body takes longer."""
    watchdog = Timer(seconds, _end, [seconds])
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _end(seconds: float) -> None:
    print(
        f"trimtab: the query was ended after {seconds:g} seconds: one call in it takes longer and"
        " cannot be interrupted; make it do less",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)  # an exception would wait for the query
