"""Which samples a store is to hold, and in which task each of them runs.

The plan is a list of files that only grows: a build writes one for the samples that the store does
not know yet. Tasks are therefore the same after a crash, and what is left to do is the planned
tasks less the committed ones. A file's name carries its number and its own checksum; that none is
missing shows in the numbers, and of the last one in the shards, each of which is of a planned task.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import PairsError, StoreError
from trimtab.pairs.sample import Sample
from trimtab.store.files import write_atomically

TASK_CHARACTERS = 1 << 15
LARGEST_TASK = 1 << 19
TASKS = 64
"""Text of one task, some 8,000 to 128,000 tokens: what a crash can cost, and the size of a shard.
Samples that are planned together make about so many tasks, if that gives them a size in between.
"""


@dataclass(frozen=True, slots=True)
class Planned:
    """A sample, its number in the store, and the task that runs it."""

    index: int
    task: str
    sample: Sample

    @property
    def key(self) -> tuple[str, str]:
        """What names the sample in a store."""
        return self.sample.behavior, self.sample.id


def read_plan(folder: Path) -> list[Planned]:
    """Read all planned samples, by number. Raises `StoreError` where a file is damaged or lost."""
    planned: dict[int, Planned] = {}
    for number, path in enumerate(plan_files(folder)):
        data = path.read_bytes()
        if path.name[:6] != f"{number:05d}-":
            raise StoreError(
                f"{folder} has {path.name} where file {number:05d} should be: a file was lost or"
                " added. Restore a copy of the whole folder, or build into a new one"
            )
        if path.stem.partition("-")[2] != _checksum(data):
            raise StoreError(
                f"{path} is damaged: its content no longer matches its name."
                " Restore a copy of it, or build into a new folder"
            )
        for line in data.splitlines():
            entry = _parse(json.loads(line), path)
            if entry.index > len(planned) or (
                entry.index in planned
                and (planned[entry.index].key, planned[entry.index].task) != (entry.key, entry.task)
            ):
                raise StoreError(
                    f"{path} does not follow from the files before it: sample {entry.index} is"
                    f" {'different there' if entry.index in planned else 'not the next one'}."
                    " Restore a copy of the whole folder, or build into a new one"
                )
            planned[entry.index] = entry  # a later file may amend group and meta
    return list(planned.values())


def check_planned(folder: Path, planned: Iterable[Planned], tasks: Iterable[str]) -> None:
    """Raise `StoreError` where a task that has run is not planned: the plan's last file is lost."""
    lost = sorted(set(tasks) - {entry.task for entry in planned})
    if lost:
        raise StoreError(
            f"{folder} lacks the task {lost[0]}, which has run: its last file was lost."
            " Restore a copy of it, build the same samples again, or build into a new folder"
        )


def extend_plan(
    folder: Path, samples: Iterable[Sample], tasks: Iterable[str] = ()
) -> list[Planned]:
    """Add the samples that the plan does not hold yet, and return the whole plan.

    A known sample whose group or meta changed is amended; nothing of it runs again.
    Raises `StoreError` where an id stands for two different samples, or one of `tasks`, those that
    have run, is not in what would be the plan; it is left as it was.
    """
    known = {entry.key: entry for entry in read_plan(folder)}
    first = len(known)
    fresh: dict[tuple[str, str], Sample] = {}
    amended: dict[tuple[str, str], Planned] = {}
    for sample in samples:
        key = sample.behavior, sample.id
        old = known[key].sample if key in known else fresh.get(key)
        if old is None:
            fresh[key] = sample
        elif old.content_hash() != sample.content_hash():
            raise StoreError(
                f"the id {sample.id!r} of behaviour {sample.behavior!r} stands for two different"
                " samples; give one of them another id, or build into a new folder"
            )
        elif key in known and (old.group, dict(old.meta)) != (sample.group, dict(sample.meta)):
            amended[key] = Planned(known[key].index, known[key].task, sample)
    entries = [*amended.values(), *_tasks(list(fresh.values()), first)]
    whole = list((known | {entry.key: entry for entry in entries}).values())
    check_planned(folder, whole, tasks)
    if entries:
        data = b"".join(_line(entry) for entry in entries)
        number = len(plan_files(folder))
        write_atomically(folder / f"{number:05d}-{_checksum(data)}.jsonl", data)
    return whole


def plan_files(folder: Path) -> list[Path]:
    """Files of the plan, oldest first."""
    return sorted(folder.glob("*.jsonl"))


def by_task(planned: Iterable[Planned]) -> dict[str, list[Planned]]:
    """Group the plan into its tasks, in order."""
    tasks: dict[str, list[Planned]] = {}
    for entry in planned:
        tasks.setdefault(entry.task, []).append(entry)
    return tasks


def _tasks(samples: Sequence[Sample], first: int) -> Iterator[Planned]:
    total = sum(map(characters, samples))
    size = min(max(total // TASKS, TASK_CHARACTERS), LARGEST_TASK)
    start = 0
    while start < len(samples):
        end, text = start, 0
        while end < len(samples) and (end == start or text < size):
            text += characters(samples[end])
            end += 1
        hashes = "".join(sample.content_hash() for sample in samples[start:end])
        task = f"{first + start:08d}-{_checksum(hashes.encode())}"
        for number, sample in enumerate(samples[start:end], first + start):
            yield Planned(number, task, sample)
        start = end


def characters(sample: Sample) -> int:
    """Text that a sample makes the model read: what its cost is judged by before it has run."""
    return sum(len(message["content"]) for message in sample.messages) + sum(
        len(text) for _, text in sample.sides
    )


def _line(entry: Planned) -> bytes:
    sample = entry.sample
    try:
        text = json.dumps(
            {
                "index": entry.index,
                "task": entry.task,
                "behavior": sample.behavior,
                "id": sample.id,
                "group": sample.group,
                "messages": list(sample.messages),
                "positive": sample.positive,
                "negative": sample.negative,
                "meta": dict(sample.meta),
            }
        )
    except TypeError as error:
        raise StoreError(f"the meta of sample {sample.id!r} is not plain JSON: {error}") from None
    return text.encode() + b"\n"


def _parse(record: dict[str, Any], path: Path) -> Planned:
    try:
        sample = Sample(
            id=record["id"],
            behavior=record["behavior"],
            messages=tuple(record["messages"]),
            positive=record["positive"],
            negative=record["negative"],
            group=record["group"],
            meta=record["meta"],
        )
        return Planned(record["index"], record["task"], sample)
    except (KeyError, PairsError) as error:
        raise StoreError(f"{path} holds a sample that cannot be read: {error}") from None


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
