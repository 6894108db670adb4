"""Ctrl-C, as a real signal to a real command: heeded within a batch, wherever it arrives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trimtab.model.language_model import LanguageModel
from trimtab.pairs.sample import Sample
from trimtab.store.building.engines.ray import Actor
from trimtab.store.building.worker import Stopped, Task

COMMAND = """
import os, signal, time
from pathlib import Path


def reached(what, seconds):
    if what == os.environ["MOMENT"]:
        Path(what).touch()
        time.sleep(seconds)


if __name__ == "__main__":  # as in a shell's foreground, and before a library adds its own
    signal.signal(signal.SIGINT, signal.default_int_handler)
else:
    reached("importing", 60)

import trimtab.model.language_model as language_model
import trimtab.store.building.worker as worker
from trimtab.cli import app

capture, load_model = worker.capture, language_model.load_model


def slow_capture(*arguments):
    reached("running", 0.25)
    return capture(*arguments)


def slow_load(*arguments, **options):
    if __name__ == "__mp_main__":
        reached("loading", 60)
    return load_model(*arguments, **options)


worker.capture, worker.first_batch = slow_capture, lambda samples, _: samples[:1]
language_model.load_model = slow_load

if __name__ == "__main__":
    app()
"""
"""`trimtab build` whose one task takes many batches and that says where it is."""


@pytest.mark.parametrize(
    ("engine", "moment"),
    [
        ("local", "running"),
        ("processes", "running"),
        ("processes", "loading"),
        ("processes", "importing"),
    ],
)
def test_ctrl_c_ends_a_build_within_a_batch(
    engine: str,
    moment: str,
    tmp_path: Path,
    saved_model: LanguageModel,
    make_pairs: Callable[..., list[Sample]],
) -> None:
    rows = [
        {"prompt": pair.prompt, "positive": pair.positive, "negative": pair.negative}
        for pair in make_pairs(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "command.py").write_text(COMMAND)
    command = [sys.executable, "command.py", "build", "store", "pairs.jsonl"]
    command += ["--behavior", "refusal", "--model", saved_model.name, "--sae", "none"]
    command += ["--dtype", "float32", "--device", "cpu", "--engine", engine]
    build = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "MOMENT": moment, "PYTHONPATH": str(Path(__file__).parents[3])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not (tmp_path / moment).exists() and build.poll() is None:
            time.sleep(0.01)
        os.killpg(build.pid, signal.SIGINT)  # to the children, too, as a terminal does
        _, errors = build.communicate(timeout=50)  # it would load or import for longer
    finally:
        if build.poll() is None:
            os.killpg(build.pid, signal.SIGKILL)
    assert build.returncode == 130, errors
    assert "stopped; 0 of 40 samples are kept; run the same command again" in errors
    assert "Traceback" not in errors


def test_an_actor_that_is_stopped_before_it_has_a_model_runs_nothing() -> None:
    actor = Actor(job=None, threads=1)  # type: ignore[arg-type]
    actor.stop()
    with pytest.raises(Stopped):
        actor.run_shard(Task("task", (0,)))


def test_an_actor_that_is_stopped_while_it_loads_runs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Loaded:
        def run_shard(self, _: Task) -> None:
            if self.stop.is_set():  # type: ignore[attr-defined]
                raise Stopped

    actor = Actor(job=type("Job", (), {"stores": ()})(), threads=1)

    def load(*arguments: object, **options: object) -> Loaded:
        actor.stop()
        return Loaded()

    monkeypatch.setattr("trimtab.store.building.engines.ray.start_worker", load)
    with pytest.raises(Stopped):
        actor.run_shard(Task("task", (0,)))
