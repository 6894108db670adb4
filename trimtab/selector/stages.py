"""What a long command is doing: shown on stderr."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Stages:
    """Shows one line a stage with the time it took, and a bar where steps can be counted.

    Where stderr is no terminal, a plain line when a stage begins. The steps in all are 0 where
    they cannot be counted.
    """

    def __init__(self, *, shown: bool) -> None:
        console = Console(stderr=True)
        self._plain = shown and not console.is_terminal
        self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[steps]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not shown or self._plain,
        )
        self._task: TaskID | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that a stage has begun, or how far it is."""
        if stage != self._stage:
            self._finish()
            self._stage = stage
            self._task = self._bar.add_task(stage, total=total or None, steps="")
            if self._plain:
                seconds = time.monotonic() - self._started
                print(f"{seconds:5.0f} s  {stage}", file=sys.stderr, flush=True)
        if self._task is not None and total:
            self._bar.update(self._task, completed=done, total=total, steps=f"{done} of {total}")

    def _finish(self) -> None:
        if self._task is not None:
            self._bar.update(self._task, total=1, completed=1)
            self._bar.stop_task(self._task)

    def __enter__(self) -> "Stages":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        self._bar.stop()
