"""A run's journal: every measurement is written down once, so that an interrupted run resumes."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

from trimtab.errors import SelectionError

MEASURES = ("trimtab", "torch", "transformers")


class Journal:
    """An append-only JSONL file of results by key.

    The first line holds the settings of the run, and the versions of trimtab and of what runs the
    model: others may measure something else under the same key. A line that a kill cut short is
    dropped.

    Raises:
        SelectionError: the file belongs to a run with other settings, or a line of it is damaged.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self._writing = Lock()  # several replies are judged at once
        self._results: dict[str, Any] = {}
        settings = json.loads(json.dumps(settings | {name: version(name) for name in MEASURES}))
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        if lines:
            self._check(json.loads(lines[0]), settings)
            for number, line in enumerate(lines[1:], start=2):
                try:
                    entry = json.loads(line)
                    self._results[entry["key"]] = entry["result"]
                except (ValueError, TypeError, KeyError):
                    raise SelectionError(
                        f"{path}, line {number} is damaged; remove that line to measure it again"
                    ) from None
            os.truncate(path, sum(len(line) + 1 for line in lines))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings) + "\n", encoding="utf-8")

    def _check(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        names = sorted(set(before) | set(now))
        differing = [name for name in names if before.get(name) != now.get(name)]
        if differing:
            changes = "; ".join(
                f"{n}: {before.get(n)!r} then, {now.get(n)!r} now" for n in differing
            )
            raise SelectionError(
                f"{self.path.parent} holds an unfinished run with other settings ({changes}). "
                "Use those settings, remove the folder, or name another --out"
            )

    def once(self, key: tuple[Any, ...], measure: Callable[[], Any]) -> Any:
        """Return the result under `key`, measuring and noting it if it is not there yet.

        Results must survive JSON.
        """
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        if name not in self._results:
            result = json.loads(json.dumps(measure()))
            with self._writing, self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": name, "result": result}) + "\n")
                self._results[name] = result
        return self._results[name]


@contextmanager
def work_folder(out: Path | None) -> Iterator[Path]:
    """Give a run the folder of its journal: `<out>.work`, or a temporary one where nothing is kept.

    A run that breaks off leaves it behind, and the same call resumes; one that ends removes it.

    Raises:
        SelectionError: nothing can be written there.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="trimtab-") as folder:
            yield Path(folder)
        return
    work = out.with_name(out.name + ".work")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SelectionError(
            f"{out} cannot be written: {error.strerror}; name another --out"
        ) from error
    try:
        yield work
    except BaseException:
        with suppress(OSError):  # only what holds nothing goes
            work.rmdir()
        raise
    shutil.rmtree(work)
