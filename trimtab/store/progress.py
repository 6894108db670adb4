"""A bar for long builds: how many samples are done, how fast it goes, how long it will take."""

import time
from types import TracebackType


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
        self._started = time.monotonic()
        self._bar = Bar(
            TextColumn("activations"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task("", total=total, completed=done, rate="")

    def advance(self, samples: int) -> None:
        """Count `samples` more as done."""
        self._done += samples
        rate = (self._done - self._before) / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, completed=self._done, rate=f"{rate:.1f} samples/s")

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
