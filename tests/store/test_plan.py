import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trimtab.errors import StoreError
from trimtab.pairs.sample import Sample
from trimtab.store.plan import by_task, extend_plan, plan_files, read_plan

Pairs = Callable[..., list[Sample]]


def test_a_plan_gives_its_samples_back_in_order(tmp_path: Path, make_pairs: Pairs) -> None:
    planned = extend_plan(tmp_path, make_pairs(9))
    assert [entry.sample for entry in planned] == make_pairs(9)
    assert [entry.index for entry in planned] == list(range(9))
    assert read_plan(tmp_path) == planned


def test_planning_the_same_samples_again_changes_nothing(tmp_path: Path, make_pairs: Pairs) -> None:
    planned = extend_plan(tmp_path, make_pairs(9))
    files = plan_files(tmp_path)
    assert extend_plan(tmp_path, reversed(make_pairs(9))) == planned
    assert extend_plan(tmp_path, make_pairs(3)) == planned
    assert plan_files(tmp_path) == files


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_added_samples_come_in_new_tasks_and_leave_the_old_ones_alone(
    tmp_path_factory: pytest.TempPathFactory,
    make_pairs: Pairs,
    small_tasks: None,
    steps: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    before: dict[str, list[int]] = {}
    for n in steps:
        tasks = {
            task: [entry.index for entry in entries]
            for task, entries in by_task(extend_plan(folder, make_pairs(n))).items()
        }
        assert {task: tasks[task] for task in before} == before
        indices = [index for task in tasks.values() for index in task]
        assert indices == list(range(max(n, sum(map(len, before.values())))))
        before = tasks


def test_tasks_are_bounded_in_text(tmp_path: Path, make_pairs: Pairs, small_tasks: None) -> None:
    tasks = by_task(extend_plan(tmp_path, make_pairs(8)))
    assert len(tasks) > 2
    assert all(len(entries) <= 3 for entries in tasks.values())


def test_an_id_cannot_stand_for_two_samples(tmp_path: Path, make_pairs: Pairs) -> None:
    first, second = make_pairs(2)
    other = replace(second, id=first.id)
    with pytest.raises(StoreError, match=r"pair-0.*two different"):
        extend_plan(tmp_path, [first, other])
    extend_plan(tmp_path, [first])
    with pytest.raises(StoreError, match=r"pair-0.*two different"):
        extend_plan(tmp_path, [other])
    extend_plan(tmp_path, [replace(other, behavior="another")])


def test_a_changed_group_is_amended_and_runs_nothing(tmp_path: Path, make_pairs: Pairs) -> None:
    first, second = make_pairs(2)
    before = extend_plan(tmp_path, [first, second])
    after = extend_plan(tmp_path, [replace(first, group="other", meta={"note": "é"}), second])
    assert [entry.task for entry in after] == [entry.task for entry in before]
    assert [entry.sample.group for entry in read_plan(tmp_path)] == ["other", second.group]
    assert read_plan(tmp_path)[0].sample.meta == {"note": "é"}


def test_a_damaged_plan_is_refused(tmp_path: Path, make_pairs: Pairs) -> None:
    extend_plan(tmp_path, make_pairs(2))
    (file,) = plan_files(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"refusal", b"revisal"))
    with pytest.raises(StoreError, match="damaged"):
        read_plan(tmp_path)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_plan_that_lost_a_file_is_refused(
    tmp_path: Path, make_pairs: Pairs, small_tasks: None, lost: int
) -> None:
    for n in (2, 4, 6):
        extend_plan(tmp_path, make_pairs(n))
    plan_files(tmp_path)[lost].unlink()
    with pytest.raises(StoreError, match=f"where file {lost:05d} should be: a file was lost"):
        read_plan(tmp_path)


def test_a_plan_that_lost_its_last_file_grows_only_to_what_has_run(
    tmp_path: Path, make_pairs: Pairs, small_tasks: None
) -> None:
    extend_plan(tmp_path, make_pairs(3))
    planned = extend_plan(tmp_path, make_pairs(6))
    ran = by_task(planned)
    files = plan_files(tmp_path)
    files[-1].unlink()
    with pytest.raises(StoreError, match="its last file was lost"):
        extend_plan(tmp_path, make_pairs(8), ran)
    assert plan_files(tmp_path) == files[:-1]
    assert extend_plan(tmp_path, make_pairs(6), ran) == planned
    assert plan_files(tmp_path) == files


@pytest.mark.parametrize("index", [1, 3])
def test_a_plan_whose_numbers_are_taken_twice_or_left_out_is_refused(
    tmp_path: Path, make_pairs: Pairs, index: int
) -> None:
    extend_plan(tmp_path / "a", make_pairs(2))
    data = (plan_files(extended(tmp_path / "b", make_pairs)))[1].read_bytes()
    data = data.replace(b'{"index": 2', b'{"index": %d' % index)
    name = f"00001-{hashlib.sha256(data).hexdigest()[:16]}.jsonl"
    (tmp_path / "a" / name).write_bytes(data)
    with pytest.raises(StoreError, match="does not follow from the files before it"):
        read_plan(tmp_path / "a")


def extended(folder: Path, make_pairs: Pairs) -> Path:
    """A plan of two samples and, in its second file, a third."""
    for n in (2, 3):
        extend_plan(folder, make_pairs(n))
    return folder


def test_meta_that_is_no_json_is_refused(tmp_path: Path, make_pairs: Pairs) -> None:
    (pair,) = make_pairs(1)
    with pytest.raises(StoreError, match="pair-0"):
        extend_plan(tmp_path, [replace(pair, meta={"path": tmp_path})])


@pytest.mark.parametrize(
    ("total", "expected"), [(1 << 14, 1 << 15), (1 << 23, 1 << 17), (1 << 26, 1 << 19)]
)
def test_tasks_grow_with_the_plan_between_two_bounds(
    tmp_path: Path, make_pairs: Pairs, total: int, expected: int
) -> None:
    (pair,) = make_pairs(1)
    length = max(1 << 12, total >> 8)
    samples = [
        replace(pair, id=str(n), positive="x" * length, negative=None, messages=())
        for n in range(total // length)
    ]
    sizes = [len(entries) * length for entries in by_task(extend_plan(tmp_path, samples)).values()]
    assert set(sizes[:-1]) <= {expected}
    assert sizes[-1] <= expected
