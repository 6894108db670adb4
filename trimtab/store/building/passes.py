"""One pass over the samples for some stores: an engine runs the tasks that any of them lacks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from trimtab.store.building.batches import Settings
from trimtab.store.building.engines import Engine, local, processes, ray
from trimtab.store.building.engines.job import job_of
from trimtab.store.building.progress import Progress
from trimtab.store.building.space import check_room
from trimtab.store.building.targets import Target
from trimtab.store.building.worker import Manifests, Task, Worker
from trimtab.store.catalog.catalog import CATALOG
from trimtab.store.fingerprint import digest
from trimtab.store.plan import Planned, by_task, characters
from trimtab.store.shards import discard, read_markers, shard_bytes, shard_problems

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel

Plan = Mapping[str, Sequence[Planned]]
"""Samples by task."""


def run_pass(
    model: "LanguageModel",
    targets: Sequence[Target],
    plans: Sequence[Sequence[Planned]],
    settings: Settings,
    *,
    engine: Engine,
    workers: int | None,
    rank: tuple[int, int] | None,
    progress: bool,
) -> None:
    """Run every task that a store lacks, once for all that lack it.

    Args:
        plans: of each store; two stores whose plans grew alike have the same tasks.
        rank: run only every n-th task, as the i-th of n processes; see `engines.rank`.

    Raises:
        StoreError: see `build`.
        KeyboardInterrupt: Ctrl-C, with a message that says how far the build is.
    """
    tasks_of = [by_task(plan) for plan in plans]
    planned = {name: samples for tasks in tasks_of for name, samples in tasks.items()}
    share = sorted(planned)
    if rank is not None:
        share = share[rank[0] :: rank[1]]
    lacking = [
        _lacking(target, tasks, share) for target, tasks in zip(targets, tasks_of, strict=True)
    ]
    stores = {name: tuple(n for n, names in enumerate(lacking) if name in names) for name in share}
    tasks = [Task(name, numbers) for name, numbers in stores.items() if numbers]
    total = sum(len(planned[name]) for name in share)
    done = total - sum(len(planned[task.name]) for task in tasks)
    with Progress(total, done, shown=progress) as bar:
        manifests: Manifests
        if engine == "local":
            worker = Worker(model, targets, settings, planned, bar.advance)
            manifests = local.run(worker, tasks)
        else:
            job = job_of(model, targets, settings)
            manifests = {"processes": processes, "ray": ray}[engine].run(job, tasks, workers)
        try:
            with closing(manifests):
                _watch(manifests, targets, tasks_of, bar, count=engine != "local")
        except KeyboardInterrupt:
            markers = [read_markers(target.path / "shards") for target in targets]
            kept = sum(
                len(planned[name])
                for name in share
                if all(
                    name in found
                    for found, names in zip(markers, tasks_of, strict=True)
                    if name in names
                )
            )
            raise KeyboardInterrupt(
                f"stopped; {kept} of {total} samples are kept;"
                " run the same command again to continue"
            ) from None


def _lacking(target: Target, tasks: Plan, share: Sequence[str]) -> set[str]:
    """Tasks of the share that a store does not hold byte for byte; what it has of them instead is
    discarded."""
    shards = target.path / "shards"
    lacking = set(share) & tasks.keys()
    for task, marker in read_markers(shards).items():
        if task in lacking and not shard_problems(shards, task, marker, digest(target.fields)):
            lacking.remove(task)
        elif task in lacking:
            discard(shards, task)
            (target.path / CATALOG).unlink(missing_ok=True)  # it may hold the damage
    return lacking


def _watch(
    manifests: Manifests,
    targets: Sequence[Target],
    tasks_of: Sequence[Plan],
    bar: Progress,
    *,
    count: bool,
) -> None:
    """Follow the tasks to their end; raise `StoreError` as soon as the disk proves too small."""
    text = [
        {name: sum(characters(entry.sample) for entry in samples) for name, samples in plan.items()}
        for plan in tasks_of
    ]
    to_come = {
        store: sum(text[store][name] for name in plan.keys() - read_markers(path).keys())
        for store, (plan, path) in enumerate(
            zip(tasks_of, (target.path / "shards" for target in targets), strict=True)
        )
    }
    read: dict[int, int] = defaultdict(int)
    written: dict[int, int] = defaultdict(int)
    for manifest in manifests:
        new = manifest.keys() - written.keys()
        for store, marker in manifest.items():
            read[store] += text[store][marker["task"]]
            written[store] += shard_bytes(marker)
        rest = {
            store: round(written[store] * (to_come[store] - read[store]) / max(read[store], 1))
            for store in written
        }
        bar.written(sum(written.values()), sum(written.values()) + sum(rest.values()))
        if count:
            marker = next(iter(manifest.values()))
            bar.advance(sum(marker["samples"].values()), marker["files"]["tokens"]["rows"])
        if new:
            check_room({targets[store].path: size for store, size in rest.items()})
