"""Whoever runs tasks: a model, its SAEs, and `run_shard`, which turns a task into its markers.

A task passes three stages: its texts are tokenised, the device runs them, its tables are sorted,
compressed and committed. Called from several threads, a worker runs one task on the device while it
reads another and writes a third. Whatever the engine, only tasks' names go in, and only markers
come out.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple

import torch

from trimtab.errors import StoreError
from trimtab.model.language_model import LanguageModel
from trimtab.model.token_text import token_text
from trimtab.store.building.batches import (
    Settings,
    Tokenised,
    by_length,
    first_batch,
    padded_tokens,
    tokenise,
)
from trimtab.store.building.capture import Captured, Encoder, capture, wait_for_copies
from trimtab.store.building.shard_tables import shard_tables
from trimtab.store.building.targets import Target
from trimtab.store.fingerprint import digest
from trimtab.store.plan import Planned
from trimtab.store.shards import Marker, write_shard

STAGES = 3
"""Threads that keep a worker's stages busy, and so many tasks it holds at a time."""

Manifest = dict[int, Marker]
"""A task's marker in each store that lacked it, by the store's number in the pass."""

Manifests = Generator[Manifest, None, None]
"""What an engine returns: one of every task, as it is committed."""


class Task(NamedTuple):
    """A task, and the numbers of the stores that lack it."""

    name: str
    stores: tuple[int, ...]


class Stopped(Exception):
    """A worker was told to stop; what it had not begun to write is given up."""


class Worker:
    """Runs tasks for the stores of one pass. Set `stop` to end it within a batch."""

    def __init__(
        self,
        model: LanguageModel,
        targets: Sequence[Target],
        settings: Settings,
        planned: Mapping[str, Sequence[Planned]],
        tell: Callable[[int, int], None] = lambda _samples, _tokens: None,
    ) -> None:
        """Take samples by task from `planned`; `tell` hears of samples and tokens that have run."""
        self.stop = threading.Event()
        self.batch_tokens = settings.batch_tokens
        self._model, self._targets, self._settings = model, targets, settings
        self._planned, self._tell = planned, tell
        self._reading, self._running = threading.Lock(), threading.Lock()
        self._texts: dict[int, str] = {}  # of token ids by themselves

    def run_shard(self, task: Task) -> Manifest:
        """Run one task and commit its shard to every store that lacks it.

        Raises:
            StoreError: not even one sample fits into the device's memory.
            OSError: a store cannot be written.
            Stopped: `stop` was set before the task had run.
        """
        started = time.perf_counter()
        with self._reading:
            samples = self._read(task)
        with self._running:
            captured = self._run(task, by_length(samples))
        dropped = [sample for sample in samples if sample.status != "ok"]
        manifest = {}
        for number, store in enumerate(task.stores):
            target = self._targets[store]
            tables = shard_tables(captured, number, dropped, self._texts, bfloat16=target.bfloat16)
            facts = {
                "fingerprint": digest(target.fields),
                "samples": dict(
                    tables["samples"].group_by("status").len().sort("status").iter_rows()
                ),
                "n_truncated": int(tables["samples"]["n_truncated"].sum()),
                "batch_tokens": self.batch_tokens,
                "device": str(self._model.device),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "seconds": round(time.perf_counter() - started, 3),
            }
            manifest[store] = write_shard(target.path / "shards", task.name, tables, facts)
        return manifest

    def _read(self, task: Task) -> list[Tokenised]:
        self._heed()
        planned = self._planned[task.name]
        samples = [tokenise(self._model, entry, self._settings) for entry in planned]
        for sample in samples:
            for ids in (sample.prompt, *(ids for _, ids in sample.completions)):
                for token in set(ids) - self._texts.keys():
                    self._texts[token] = token_text(self._model.tokenizer, [token])
        return samples

    def _run(self, task: Task, samples: list[Tokenised]) -> list[Captured]:
        encoders = [
            Encoder(target.hook_point, target.sae, target.bfloat16)
            for target in (self._targets[store] for store in task.stores)
        ]
        captured = []
        while samples:
            self._heed()
            batch = first_batch(samples, self.batch_tokens)
            try:
                captured.append(capture(self._model, batch, encoders))
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise StoreError(
                        f"the device has too little memory for one sample of"
                        f" {batch[0].n_tokens} tokens ({error}); use a smaller max_tokens or a"
                        " larger device. What has been built is kept"
                    ) from None
                self.batch_tokens = padded_tokens(batch) // 2
            else:
                samples = samples[len(batch) :]
                self._tell(len(batch), sum(sample.n_tokens for sample in batch))
        wait_for_copies()
        return captured

    def _heed(self) -> None:
        if self.stop.is_set():
            raise Stopped
