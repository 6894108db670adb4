"""Every measurement is made once, whatever happens to the run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from trimtab.errors import SelectionError
from trimtab.selector.journal import Journal

SETTINGS = {"seed": 0, "poolings": ("mean", "last"), "target": None}


def never() -> Any:
    raise AssertionError("measured again")


def test_nothing_is_measured_twice_within_a_run_or_after_it(tmp_path: Path) -> None:
    file = tmp_path / "work" / "journal.jsonl"
    first = Journal(file, SETTINGS)
    assert first.once(("effect", "a", 0.1), lambda: [1.0, 0.1 + 0.2]) == [1.0, 0.1 + 0.2]
    assert first.once(("effect", "a", 0.1), never) == [1.0, 0.1 + 0.2]
    again = Journal(file, SETTINGS)
    assert again.once(("effect", "a", 0.1), never) == [1.0, 0.1 + 0.2]
    assert again.once(("effect", "a", 0.2), lambda: "other") == "other"


def test_a_fresh_result_has_the_types_of_one_that_was_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SETTINGS)
    assert journal.once(("x",), lambda: {"curve": ((1.0, 2.0),)}) == {"curve": [[1.0, 2.0]]}


def test_several_measurements_at_once_leave_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "j"
    journal = Journal(file, SETTINGS)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: journal.once((i,), lambda: f"{i}" * 2000), range(200)))
    again = Journal(file, SETTINGS)
    assert (
        [again.once((i,), never) for i in range(200)]
        == found
        == [f"{i}" * 2000 for i in range(200)]
    )


def test_what_fails_is_not_written_down(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SETTINGS)
    with pytest.raises(ZeroDivisionError):
        journal.once(("x",), lambda: 1 / 0)
    assert journal.once(("x",), lambda: 3) == 3


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_last_line_that_a_kill_cut_short_is_dropped(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "j", SETTINGS)
    journal.once(("first",), lambda: 1)
    journal.once(("second",), lambda: 2)
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-cut])
    resumed = Journal(tmp_path / "j", SETTINGS)
    assert resumed.once(("first",), never) == 1
    assert resumed.once(("second",), lambda: 22) == 22
    once_more = Journal(tmp_path / "j", SETTINGS)
    assert once_more.once(("second",), never) == 22
    assert once_more.once(("first",), never) == 1


@pytest.mark.parametrize("damage", [b"garbage", b"[3]", b'{"key": 1}'])
def test_a_damaged_line_is_named_with_its_number(tmp_path: Path, damage: bytes) -> None:
    journal = Journal(tmp_path / "j", SETTINGS)
    journal.once(("first",), lambda: 1)
    journal.once(("second",), lambda: 2)
    lines = (tmp_path / "j").read_bytes().split(b"\n")
    (tmp_path / "j").write_bytes(b"\n".join([lines[0], damage, *lines[2:]]))
    with pytest.raises(SelectionError, match="line 2 is damaged; remove that line"):
        Journal(tmp_path / "j", SETTINGS)


def test_a_first_line_that_was_cut_short_starts_anew(tmp_path: Path) -> None:
    Journal(tmp_path / "j", SETTINGS)
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:9])
    Journal(tmp_path / "j", SETTINGS).once(("x",), lambda: 1)
    assert Journal(tmp_path / "j", SETTINGS).once(("x",), never) == 1


def test_opening_a_sound_journal_does_not_write_it_anew(tmp_path: Path) -> None:
    Journal(tmp_path / "j", SETTINGS).once(("x",), lambda: 1)
    before = (tmp_path / "j").read_bytes()
    Journal(tmp_path / "j", SETTINGS)
    assert (tmp_path / "j").read_bytes() == before


def test_another_runs_journal_is_refused_with_what_differs(tmp_path: Path) -> None:
    Journal(tmp_path / "j", SETTINGS)
    with pytest.raises(SelectionError, match=r"seed: 0 then, 1 now") as caught:
        Journal(tmp_path / "j", {**SETTINGS, "seed": 1})
    assert "poolings" not in str(caught.value)
    with pytest.raises(SelectionError, match="trials: None then, 3 now"):
        Journal(tmp_path / "j", {**SETTINGS, "trials": 3})


def test_what_other_libraries_measured_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(tmp_path / "j", SETTINGS)
    monkeypatch.setattr("trimtab.selector.journal.version", lambda name: f"{name} of tomorrow")
    with pytest.raises(SelectionError, match=r"transformers: '.*' then, '.* of tomorrow' now"):
        Journal(tmp_path / "j", SETTINGS)
