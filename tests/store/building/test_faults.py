"""What can go wrong while a store is built, from outside and at any moment."""

import errno
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from trimtab.errors import StoreError
from trimtab.model.language_model import LanguageModel
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build, open_store, plan, shards
from trimtab.store.building.batches import Tokenised
from trimtab.store.building.capture import capture

Pairs = Callable[..., list[Sample]]
Build = Callable[..., Store]


def _die_at(step: int) -> None:
    """Kill this process at the n-th beginning, flushing or moving of a file."""
    calls = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            reads = original is opening and args[1:2] != ("wb",)
            calls += not reads
            if calls > step and not reads:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        return call

    opening = Path.open
    os.fsync = counted(os.fsync)
    Path.open = counted(opening)  # type: ignore[method-assign]
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]


def _build_and_die(
    path: Path, samples: list[Sample], model: LanguageModel, step: int | None
) -> None:
    torch.set_num_threads(1)
    plan.TASK_CHARACTERS = 150
    if step is not None:
        _die_at(step)
    build(path, samples, model, None, progress=False)


class Killed(NamedTuple):
    """Runs a build in a process of its own and says how that ended."""

    context: Any

    def run(self, *args: Any, step: int | None = None, after: float | None = None) -> int:
        process = self.context.Process(target=_build_and_die, args=(*args, step))
        process.start()
        if after is not None:
            time.sleep(after)
            process.kill()
        process.join(120)
        return int(process.exitcode)


@pytest.fixture(scope="module")
def killed() -> Killed:
    # Forked from a server that has imported everything and started no thread: milliseconds each.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trimtab.store.building.passes", "tests.store.test_faults"])
    return Killed(context)


def test_a_build_killed_at_any_step_of_its_commits_resumes_to_the_same_content(
    tmp_path: Path,
    small_tasks: None,
    make_pairs: Pairs,
    tiny_model: LanguageModel,
    killed: Killed,
) -> None:
    samples = make_pairs(4)
    expected = build(tmp_path / "expected", samples, tiny_model, None, progress=False)
    step, codes = 0, set[int]()
    while codes <= {-signal.SIGKILL}:
        path = tmp_path / f"killed-{step}"
        codes.add(killed.run(path, samples, tiny_model, step=step))
        resumed = build(path, samples, tiny_model, None, progress=False)
        assert resumed.content_hash == expected.content_hash
        assert not list(path.rglob("*.tmp"))
        step += 11  # a commit takes four, so every kind comes up
    assert resumed.verify() == []
    assert codes == {0, -signal.SIGKILL}


def test_a_build_killed_again_and_again_ends_with_the_same_content(
    tmp_path: Path,
    small_tasks: None,
    make_pairs: Pairs,
    tiny_model: LanguageModel,
    killed: Killed,
) -> None:
    samples = make_pairs(20)
    expected = build(tmp_path / "expected", samples, tiny_model, None, progress=False)
    moments = random.Random(0)
    path = tmp_path / "killed"
    for _ in range(5):
        killed.run(path, samples, tiny_model, after=moments.uniform(0.2, 1.5))
    resumed = build(path, samples, tiny_model, None, progress=False)
    assert resumed.content_hash == expected.content_hash
    assert resumed.verify() == []


def test_a_batch_that_does_not_fit_is_halved_for_the_rest_of_the_build(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = built(make_pairs(9), "expected", batch_tokens=1)
    sizes = []

    def small(model: LanguageModel, batch: list[Tokenised], encoders: Any) -> object:
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return capture(model, batch, encoders)

    monkeypatch.setattr("trimtab.store.building.worker.capture", small)
    store = built(make_pairs(9))
    assert store.content_hash == expected.content_hash
    assert sizes[0] > 1
    assert sizes[-4:] == [1] * 4


def test_a_sample_that_does_not_fit_alone_is_one_clear_error(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("trimtab.store.building.worker.capture", full)
    with pytest.raises(
        StoreError, match=r"too little memory for one sample of \d+ tokens.*max_tokens"
    ):
        built(make_pairs(3))


def test_a_writer_that_fails_stops_the_device(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    failed = threading.Event()

    def running(model: LanguageModel, batch: list[Tokenised], encoders: Any) -> object:
        ran.append(batch)
        if len(ran) > 1:
            assert failed.wait(10)
            time.sleep(0.1)  # for the error to reach whoever waits
        return capture(model, batch, encoders)

    def failing(*_: object) -> None:
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("trimtab.store.building.worker.capture", running)
    monkeypatch.setattr("trimtab.store.building.worker.write_shard", failing)
    with pytest.raises(StoreError, match="Input/output error"):
        built(make_pairs(20))
    assert len(ran) <= 3  # of some ten tasks


def test_a_disk_that_will_be_too_small_is_refused_after_the_first_shard(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr("trimtab.store.building.space.shutil.disk_usage", lambda _: Usage(20_000))
    with pytest.raises(StoreError, match=r"will need about .* more.*20 kB left.*Make room"):
        built(make_pairs(60))


def test_a_folder_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "s" / "store.json"))

    with monkeypatch.context() as patch:
        patch.setattr("trimtab.store.files.commit", refused)  # chmod does not stop root
        with pytest.raises(StoreError, match=r"/s cannot be written: Permission denied"):
            build(tmp_path / "s", make_pairs(1), tiny_model, None, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        with pytest.raises(StoreError, match="cannot be written: Permission denied"):
            build(tmp_path / "t", make_pairs(1), tiny_model, None, progress=False)


def test_a_marker_without_its_shard_and_a_shard_without_its_marker_are_built_again(
    built: Build, make_pairs: Pairs
) -> None:
    store = built(make_pairs(6))
    folder = store.path / "shards"
    first, second, *_ = shards.read_markers(folder)
    for path in folder.glob(f"{first}.*.parquet"):
        path.unlink()
    (folder / f"{second}.json").unlink()
    assert store.verify()
    mended = built(make_pairs(6))
    assert mended.verify() == []
    assert mended.content_hash == store.content_hash


def test_a_store_is_read_while_it_is_built(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = built(make_pairs(2)).path
    seen = []

    def reading(model: LanguageModel, batch: list[Tokenised], encoders: Any) -> object:
        counts = open_store(path).status_counts()
        seen.append(counts["ok"])
        return capture(model, batch, encoders)

    monkeypatch.setattr("trimtab.store.building.worker.capture", reading)
    store = built(make_pairs(9))
    assert set(seen) == {2}  # the last catalog, whole, until there is a new one
    assert store.status_counts() == {"ok": 9}


def test_leftovers_are_not_swept_from_under_a_worker(built: Build, make_pairs: Pairs) -> None:
    from trimtab.store.files import working

    path = built(make_pairs(2)).path
    leftover = path / "shards" / "0-a.00000000.tokens.parquet.1234.tmp"
    leftover.write_bytes(b"half")
    with working(path):
        built(make_pairs(3))
        assert leftover.exists()
    built(make_pairs(3))
    assert not leftover.exists()
