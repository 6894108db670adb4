"""Tasks in actors of a Ray cluster: one per GPU, or with a share of the cores each.

The stores must lie where every node reaches them. An actor that dies is started again by Ray, and
what it was at runs again there.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trimtab.errors import StoreError
from trimtab.store.building.engines.job import Job, start_worker
from trimtab.store.building.engines.local import HEED
from trimtab.store.building.worker import STAGES, Manifest, Manifests, Stopped, Task, Worker
from trimtab.store.files import working

RETRIES = 3
"""Deaths of one actor, or of the actor at one task, after which the build gives up."""

CORES = 4
"""Of an actor without GPU, where nobody says how many actors there are to be."""

PATIENCE = 60.0  # seconds in which actors that are told to stop commit what they have run


class Actor:
    """A worker on some node. It loads its model at its first task, where an error has a caller."""

    def __init__(self, job: Job, threads: int) -> None:
        self._job, self._threads = job, threads
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._worker: Worker | None = None
        self._locks = ExitStack()  # held until the process ends

    def run_shard(self, task: Task) -> Manifest:
        """See `Worker.run_shard`."""
        with self._starting:
            if self._stop.is_set():
                raise Stopped
            if self._worker is None:
                for store in self._job.stores:
                    self._locks.enter_context(working(Path(store.path)))
                self._worker = start_worker(self._job, threads=self._threads)
                self._worker.stop = self._stop
        return self._worker.run_shard(task)

    def stop(self) -> None:
        """End within a batch, or before the first one while the model still loads."""
        self._stop.set()


def run(job: Job, tasks: Sequence[Task], workers: int | None) -> Manifests:
    """Run all tasks in `workers` actors, in the cluster that Ray finds or else in a new one here.

    Raises `StoreError` where Ray is not installed, or an actor died too often.
    """
    try:
        import ray
    except ImportError:
        raise StoreError(
            "the engine ray needs Ray: pip install 'trimtab[ray]', or use --engine processes"
        ) from None
    mine = not ray.is_initialized()
    if mine:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        yield from _run(ray, job, tasks, workers)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        raise StoreError(
            f"a Ray actor died more than {RETRIES} times; what has been built is kept.\n{error}"
        ) from None
    finally:
        if mine:
            ray.shutdown()


def _run(ray: Any, job: Job, tasks: Sequence[Task], workers: int | None) -> Manifests:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    count, cores, gpus = _share(nodes, workers, len(tasks))
    actor = ray.remote(
        num_cpus=cores,
        num_gpus=gpus,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
        max_concurrency=STAGES + 1,  # and one to stop it
    )(Actor)
    crew = [actor.remote(job, cores) for _ in range(count)]
    waiting = iter(tasks)
    flying = {}
    for one, task in zip(crew * STAGES, waiting, strict=False):
        flying[one.run_shard.remote(task)] = one
    try:
        while flying:
            ready, _ = ray.wait(list(flying), num_returns=1, timeout=HEED)
            for done in ready:
                one = flying.pop(done)
                manifest = ray.get(done)
                for task in waiting:
                    flying[one.run_shard.remote(task)] = one
                    break
                yield manifest
    finally:
        if flying:
            for one in crew:
                one.stop.remote()
            ray.wait(list(flying), num_returns=len(flying), timeout=PATIENCE)
        for one in crew:
            ray.kill(one)


def _share(
    nodes: Sequence[dict[str, float]], workers: int | None, n_tasks: int
) -> tuple[int, int, float]:
    """How many actors there are, and each one's cores and GPUs, so that all find room at once."""
    cores = [int(node.get("CPU", 0)) for node in nodes]
    n_gpus = int(sum(node.get("GPU", 0) for node in nodes))
    count = workers or n_gpus or max(1, sum(cores) // CORES)
    count = max(1, min(count, n_tasks, sum(cores)))
    share = max(1, sum(cores) // count)
    while share > 1 and sum(core // share for core in cores) < count:
        share -= 1
    return count, share, min(1.0, n_gpus / count)
