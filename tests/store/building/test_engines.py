"""The same tasks in other processes: same content, whoever dies."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trimtab.cli import app
from trimtab.errors import StoreError
from trimtab.model.hook_points import parse_hook_point
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build, build_many, open_store
from trimtab.store.building.batches import Settings
from trimtab.store.building.engines.job import job_of, start_worker
from trimtab.store.building.engines.rank import launched_rank, own_device, parse_rank
from trimtab.store.building.engines.ray import _share
from trimtab.store.building.targets import Target
from trimtab.store.files import building as lock
from trimtab.store.files import without_workers, working
from trimtab.store.shards import read_markers

Pairs = Callable[..., list[Sample]]

POINT = "blocks.1.hook_resid_post"


@dataclass
class Building:
    """Builds of one set of samples into folders of one test."""

    folder: Path
    model: LanguageModel
    samples: list[Sample]

    def run(self, name: str, **options: Any) -> Store:
        return build(
            self.folder / name,
            self.samples,
            self.model,
            None,
            hook_point=POINT,
            progress=False,
            **options,
        )

    def run_rank(self, name: str, rank: tuple[int, int], **options: Any) -> dict[Path, Store]:
        model = load_model(self.model.name, dtype="float32", device="cpu")  # as every process does
        return build_many(
            {self.folder / name: POINT}, self.samples, model, rank=rank, progress=False, **options
        )


@pytest.fixture
def building(
    tmp_path: Path, saved_model: LanguageModel, small_tasks: None, make_pairs: Pairs
) -> Building:
    return Building(tmp_path, saved_model, make_pairs(12))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster of two cores on this machine."""
    ray = pytest.importorskip("ray")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def kill_a_worker(path: Path) -> threading.Thread:
    """As soon as a task is committed, kill the process that committed it."""

    def watch() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for marker in read_markers(path / "shards").values():
                if marker.get("pid") not in (None, os.getpid()):
                    os.kill(marker["pid"], signal.SIGKILL)
                    return
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.filterwarnings("ignore")
def test_processes_build_what_one_builds_and_one_that_is_killed_is_started_again(
    building: Building,
) -> None:
    expected = building.run("expected")
    killer = kill_a_worker(building.folder / "two")
    store = building.run("two", engine="processes", workers=2)
    killer.join()
    assert store.content_hash == expected.content_hash
    assert store.verify() == []
    pids = {marker["pid"] for marker in read_markers(store.path / "shards").values()}
    assert os.getpid() not in pids
    assert len(pids) > 1


@pytest.mark.filterwarnings("ignore")
def test_ray_builds_what_one_process_builds_and_an_actor_that_is_killed_is_started_again(
    building: Building, cluster: None
) -> None:
    expected = building.run("expected")
    killer = kill_a_worker(building.folder / "ray")
    store = building.run("ray", engine="ray", workers=2)
    killer.join()
    assert store.content_hash == expected.content_hash
    assert store.verify() == []


def test_the_last_rank_to_end_builds_the_catalog(building: Building) -> None:
    expected = building.run("expected")
    for rank in (2, 0):
        assert building.run_rank("ranks", (rank, 3)) == {}
    assert not (building.folder / "ranks" / "catalog.duckdb").exists()
    (store,) = building.run_rank("ranks", (1, 3)).values()
    assert store.content_hash == expected.content_hash
    assert store.status_counts() == {"ok": 12}
    assert store.verify() == []


def test_ranks_at_once_and_racing_on_the_same_tasks_do_no_harm(building: Building) -> None:
    expected = building.run("expected")
    found: list[dict[Path, Store]] = []
    ranks = [(0, 2), (1, 2), (0, 1)]
    threads = [
        threading.Thread(target=lambda rank=rank: found.append(building.run_rank("race", rank)))
        for rank in ranks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    store = open_store(building.folder / "race")
    assert store.content_hash == expected.content_hash
    assert store.verify() == []


def test_ranks_of_other_settings_are_refused_while_a_rank_is_at_work(building: Building) -> None:
    path = building.folder / "ranks"
    building.run("ranks")
    for marker in (path / "shards").glob("*.json"):
        marker.unlink()
    with (
        working(path),
        pytest.raises(StoreError, match="max_tokens: the store has 1024, you asked"),
    ):
        building.run_rank("ranks", (1, 2), max_tokens=50)
    assert building.run_rank("ranks", (1, 2), max_tokens=50) == {}  # nobody is bound any more


def test_a_rank_is_at_work_before_another_may_plan(
    building: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = building.folder / "ranks"
    seen: list[bool] = []

    def plan(*arguments: Any, **options: Any) -> None:
        with lock(path), without_workers(path) as alone:
            seen.append(alone)

    monkeypatch.setattr("trimtab.store.building.passes.run_pass", plan)
    building.run_rank("ranks", (0, 2))
    assert seen == [False]


def test_shards_of_another_fingerprint_make_no_catalog(building: Building) -> None:
    building.run_rank("ranks", (0, 2))
    path = building.folder / "ranks"
    marker = min((path / "shards").glob("*.json"))
    marker.write_text(json.dumps({**json.loads(marker.read_bytes()), "fingerprint": "another"}))
    with pytest.raises(StoreError, match=rf"{marker.name} belongs to the fingerprint another"):
        building.run_rank("ranks", (1, 2))
    assert not (path / "catalog.duckdb").exists()
    (store,) = building.run_rank("ranks", (0, 2)).values()
    assert store.verify() == []


def test_a_rank_mends_its_own_share(building: Building) -> None:
    for rank in range(2):
        building.run_rank("ranks", (rank, 2))
    path = building.folder / "ranks"
    first = min(read_markers(path / "shards"))
    for file in (path / "shards").glob(f"{first}.*.parquet"):
        file.unlink()
    building.run_rank("ranks", (1, 2))
    assert open_store(path).verify()
    (store,) = building.run_rank("ranks", (0, 2)).values()
    assert store.verify() == []


def test_a_worker_with_another_model_refuses(
    building: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path.cwd())  # the worker goes to the job's folder
    expected = building.run("expected")
    fields = {**expected.fingerprint, "model_sha256": "another"}
    target = Target(expected.path, parse_hook_point(POINT), None, fields)
    job = job_of(building.model, [target], Settings(True, None, 1024, 4096))
    with pytest.raises(StoreError, match=r"a worker on .* differs(?s:.*)model_sha256.*another"):
        start_worker(job, device="cpu")


def array_job(element: int, first: int, last: int, *, count: int, step: int = 1) -> dict[str, str]:
    """What SLURM tells an element of an array job."""
    numbers = {"ID": element, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(number) for name, number in numbers.items()}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (3, 8)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, (1, 4)),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "6"}, (5, 6)),
        (array_job(8, 0, 12, count=4, step=4), (2, 4)),  # --array=0-15:4
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "3",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_PROCID": "1",
                "SLURM_NTASKS": "2",
            },
            (5, 8),
        ),
    ],
)
def test_a_launchers_rank_is_read_from_its_variables(
    environment: dict[str, str], expected: tuple[int, int]
) -> None:
    assert launched_rank(environment) == expected


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "5", "WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "0"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "", "WORLD_SIZE": "2"},
        {"SLURM_PROCID": "4", "SLURM_NTASKS": "4"},
        array_job(7, 3, 7, count=2),  # --array=3,7
        array_job(3, 3, 7, count=2),
        array_job(0, 0, 3, count=3),  # --array=0,1,3
        array_job(0, 0, 4, count=2, step=0),
        array_job(9, 0, 7, count=8),
        {**array_job(0, 0, 1, count=2), "SLURM_PROCID": "2", "SLURM_NTASKS": "2"},
    ],
)
def test_a_launchers_rank_that_leaves_tasks_to_nobody_is_refused(
    environment: dict[str, str],
) -> None:
    with pytest.raises(StoreError, match="--rank i/n"):
        launched_rank(environment)


def test_a_device_that_is_no_number_is_refused() -> None:
    with pytest.raises(StoreError, match="LOCAL_RANK is 'first', not a number"):
        own_device({"LOCAL_RANK": "first"})


def test_a_rank_that_is_none_is_refused() -> None:
    assert parse_rank("0/8") == (0, 8)
    for wrong in ("8/8", "1", "a/b", "-1/2"):
        with pytest.raises(StoreError, match="i/n"):
            parse_rank(wrong)
    with pytest.raises(StoreError, match="--rank i/n"):
        launched_rank({})


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([{"CPU": 8}], None, (2, 4, 0.0)),
        ([{"CPU": 6}, {"CPU": 6}], 3, (3, 3, 0.0)),  # not 4: only one of 4 fits on each
        ([{"CPU": 2}], 9, (2, 1, 0.0)),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 4}], None, (8, 4, 1.0)),
        ([{"CPU": 16, "GPU": 1}], 2, (2, 8, 0.5)),
    ],
)
def test_actors_share_a_cluster_so_that_all_fit(
    nodes: list[dict[str, float]], workers: int | None, expected: tuple[int, int, float]
) -> None:
    assert _share(nodes, workers, 100) == expected


def test_an_engine_that_does_not_exist_is_refused(building: Building) -> None:
    with pytest.raises(StoreError, match="'dask'; choose from local, processes, ray"):
        building.run("s", engine="dask")
    assert not (building.folder / "s").exists()


@pytest.mark.filterwarnings("ignore")
def test_the_command_builds_several_stores_in_a_ray_cluster_and_by_rank(
    building: Building, cluster: None
) -> None:
    pairs = building.folder / "pairs.jsonl"
    rows = [
        {"prompt": sample.prompt, "positive": sample.positive, "negative": sample.negative}
        for sample in building.samples
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = [str(pairs), "--behavior", "refusal", "--model", building.model.name, "--sae", "none"]
    common += ["--hook-point", POINT, "--hook-point", "blocks.3.hook_resid_post"]
    common += ["--dtype", "float32"]

    def trimtab(store: str, *options: str) -> str:
        arguments = ["build", str(building.folder / store), *common, *options]
        outcome = CliRunner().invoke(app, arguments)
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    assert "12 ok" in trimtab("ray", "--engine", "ray", "--workers", "2")
    assert "rank 1 of 2 has finished; other ranks have not" in trimtab("ranks", "--rank", "1/2")
    assert "12 ok" in trimtab("ranks", "--rank", "0/2")
    for point in (POINT, "blocks.3.hook_resid_post"):
        one, other = (open_store(building.folder / store / point) for store in ("ray", "ranks"))
        assert one.content_hash == other.content_hash
        assert one.fingerprint["hook_point"] == point
