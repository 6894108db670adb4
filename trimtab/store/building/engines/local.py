"""Tasks in this process, their stages in threads of their own."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice

from trimtab.store.building.worker import STAGES, Manifest, Manifests, Task, Worker

HEED = 0.2
"""Seconds in which a Ctrl-C is heeded. Once polars is imported, whose handler for it has the system
go on with what it interrupts, no wait for a lock is cut short by it."""


def run(worker: Worker, tasks: Sequence[Task]) -> Manifests:
    """Run all tasks. Whatever ends it early, what has run is still committed."""
    waiting = iter(tasks)
    flying: set[Future[Manifest]] = set()
    pool = ThreadPoolExecutor(STAGES)
    try:
        while True:
            free = STAGES - len(flying)
            flying |= {pool.submit(worker.run_shard, task) for task in islice(waiting, free)}
            if not flying:
                return
            done, flying = wait(flying, HEED, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        worker.stop.set()
        pool.shutdown(cancel_futures=True)
