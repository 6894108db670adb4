"""A study on the command line: what stops it stops it early, in a line, and nothing is lost."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pytest

from experiments.analogies.study import SIZES
from experiments.analogies.table import TABLES, draw
from experiments.command import command
from experiments.token_count import TOKENS

Run = Callable[..., str]


def never(*_: object, **__: object) -> NoReturn:
    raise AssertionError("the model was loaded")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a study that is stopped, and return the last line it says."""
    monkeypatch.setattr("experiments.command.load_model", never)

    def ran(*words: object, code: int = 1, measure: Any = never, reads: Any = ()) -> str:
        monkeypatch.setattr(sys, "argv", ["study", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            command("analogies", measure, draw, SIZES, reads=reads)
        assert stop.value.code == code
        return capsys.readouterr().err.splitlines()[-1]

    return ran


def test_a_folder_that_cannot_be_written_is_refused_before_the_model_loads(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("here")
    assert "cannot be written" in run("--out", tmp_path / "file")
    assert "name another --out" in run("--out", tmp_path / "file" / "deeper")


def test_data_that_is_needed_is_asked_for_before_the_model_loads(run: Run, tmp_path: Path) -> None:
    reads = ("some/questions.json",)
    assert "--data" in run("--out", tmp_path, reads=reads)
    assert "is no folder" in run("--out", tmp_path, "--data", tmp_path / "no", reads=reads)
    assert "has no some/questions.json" in run("--out", tmp_path, "--data", tmp_path, reads=reads)


def test_a_config_that_is_wrong_is_refused_before_the_model_loads(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[sizes.analogies]\nfew = 0")
    told = run("--out", tmp_path, "--config", tmp_path / "config.toml")
    assert "sizes.analogies: few" in told


def test_a_count_of_tokens_that_is_damaged_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "analogies").mkdir()
    (tmp_path / "analogies" / TOKENS).write_text('{"tokens"')
    assert f"{TOKENS} is damaged" in run("--out", tmp_path)


def test_an_interrupted_study_says_that_it_resumes(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.command.load_model", interrupted)
    assert "run the same command again" in run("--out", tmp_path, code=130)


def test_tables_that_cannot_be_drawn_are_named(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "analogies"
    assert "has no transfers.parquet" in run("--out", tmp_path, "--draw")
    out.mkdir()
    for name in TABLES:
        (out / f"{name}.parquet").write_bytes(b"PAR1 and no more")
    assert "transfers.parquet cannot be read" in run("--out", tmp_path, "--draw")
    for name in TABLES:
        pl.DataFrame({"other": [1]}).write_parquet(out / f"{name}.parquet")
    assert "has other tables" in run("--out", tmp_path, "--draw")
