"""A bar for long builds: how much is done, how fast it goes, how long and how large it will be."""

import time
from types import TracebackType

from trimtab.store.building.space import gigabytes


class Progress:
    """Counts samples, and shows a bar on stderr while it is entered, if it is to be shown."""

    def __init__(self, total: int, done: int, *, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        self._done = self._before = done
        self._tokens = 0
        self._started = time.monotonic()
        self._bar = Bar(
            TextColumn("activations"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[disk]}"),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task("", total=total, completed=done, rate="", disk="")

    def advance(self, samples: int, tokens: int) -> None:
        """Count `samples` more as done, and their tokens."""
        self._done += samples
        self._tokens += tokens
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self._done - self._before) / seconds
        self._bar.update(
            self._task,
            completed=self._done,
            rate=f"{rate:.1f} samples/s, {self._tokens / seconds:,.0f} tokens/s",
        )

    def written(self, done: int, estimated: int) -> None:
        """Say how many bytes lie on the disk, and how many it will be."""
        self._bar.update(self._task, disk=f"{gigabytes(done)} of about {gigabytes(estimated)}")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
