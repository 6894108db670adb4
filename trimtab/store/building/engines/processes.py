"""Tasks in several processes on this machine, one per GPU or with a share of the cores each.

Every process has its own share of the tasks and its own pipe, so one that is killed takes nothing
of another's with it. It is started again for what it had left.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from trimtab.errors import StoreError
from trimtab.store.building.engines.job import Job, start_worker
from trimtab.store.building.engines.local import HEED
from trimtab.store.building.engines.local import run as run_here
from trimtab.store.building.worker import Manifests, Stopped, Task
from trimtab.store.files import working

RETRIES = 3
"""Deaths of one process without a task committed in between, after which the build gives up."""

PATIENCE = 60.0  # seconds in which a process that is told to stop commits what it has run


def run(job: Job, tasks: Sequence[Task], workers: int | None) -> Manifests:
    """Run all tasks in `workers` processes: by default one per GPU, or two."""
    import torch

    n_gpus = torch.cuda.device_count()
    count = min(workers or n_gpus or 2, len(tasks))
    threads = max(1, len(os.sched_getaffinity(0)) // max(count, 1))
    left = {number: list(tasks[number::count]) for number in range(count)}
    deaths = dict.fromkeys(left, 0)
    crew: dict[Connection, tuple[int, SpawnProcess]] = {}

    def start(number: int) -> None:
        device = f"cuda:{number % n_gpus}" if n_gpus else "cpu"
        context = get_context("spawn")
        here, there = context.Pipe(duplex=False)
        process = context.Process(
            target=_work, args=(job, left[number], device, threads, there), daemon=True
        )
        with _deaf():
            process.start()
        there.close()  # or the pipe would not end with the process
        crew[here] = number, process

    try:
        for number in left:
            start(number)
        while crew:
            for pipe in wait(list(crew), HEED):
                assert isinstance(pipe, Connection)
                number, process = crew[pipe]
                try:
                    message = pipe.recv()
                except EOFError:
                    process.join()
                    del crew[pipe]
                    if left[number]:
                        deaths[number] += 1
                        if deaths[number] > RETRIES:
                            raise StoreError(
                                f"a worker process died {deaths[number]} times in a row, last with"
                                f" exit code {process.exitcode}; what has been built is kept"
                            ) from None
                        start(number)
                    continue
                if isinstance(message, BaseException):
                    raise message
                name, manifest = message
                left[number] = [task for task in left[number] if task.name != name]
                deaths[number] = 0
                yield manifest
    finally:
        for _, process in crew.values():
            if process.is_alive():
                process.terminate()
        for _, process in crew.values():
            process.join(PATIENCE)
            process.kill()


@contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that never hear a Ctrl-C, not even while they import; it reaches this one."""
    resource_tracker.ensure_running()  # which would undo the mask as it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(job: Job, tasks: Sequence[Task], device: str, threads: int, pipe: Connection) -> None:
    """Run the tasks in a process of their own. SIGTERM ends it: at once until there is a worker,
    then within a batch."""
    try:
        with ExitStack() as stack:
            for store in job.stores:
                stack.enter_context(working(Path(store.path)))
            worker = start_worker(job, device=device, threads=threads)
            signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
            for manifest in run_here(worker, tasks):
                pipe.send((next(iter(manifest.values()))["task"], manifest))
    except Stopped:
        pass
    except Exception as error:  # whatever it is, it is the coordinator's to raise
        pipe.send(error)
