"""`trimtab sql`, `info` and `verify` on a store: what is shown, written and counted."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from trimtab.cli import app
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build

QUERY = "SELECT sample_id, feature, value FROM activations ORDER BY ALL"


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("rows.csv", pl.read_csv),
        ("rows.json", pl.read_json),
        ("rows.jsonl", pl.read_ndjson),
        ("rows.parquet", pl.read_parquet),
    ],
)
def test_a_file_holds_all_rows(store: Store, tmp_path: Path, name: str, read: Any) -> None:
    expected = store.sql(QUERY)
    result = invoke("sql", store.path, QUERY, "--out", tmp_path / name)
    assert result.exit_code == 0, result.output
    assert f"{expected.height} rows" in result.stdout
    rows = read(tmp_path / name)
    assert rows["sample_id"].to_list() == expected["sample_id"].to_list()
    assert rows["value"].to_list() == pytest.approx(expected["value"].to_list())


def test_a_file_that_exists_or_has_no_known_suffix_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("mine")
    for name in ("there.csv", "rows.xlsx", "nowhere/rows.csv"):
        result = invoke("sql", store.path, QUERY, "--out", tmp_path / name)
        assert result.exit_code == 2
    assert (tmp_path / "there.csv").read_text() == "mine"
    lists = "SELECT top_tokens FROM features"
    result = invoke("sql", store.path, lists, "--out", tmp_path / "lists.csv")
    assert result.exit_code == 1
    assert "use .parquet" in result.stderr
    assert not (tmp_path / "lists.csv").exists()


def test_a_table_says_how_many_rows_it_leaves_out(store: Store) -> None:
    height = store.sql(QUERY).height
    cut = invoke("sql", store.path, QUERY, "--max-rows", 5).stdout
    assert "only the first 5 rows are shown" in cut
    assert cut.count("pair-0") == 5
    whole = invoke("sql", store.path, "SELECT sample_id FROM samples", "--max-rows", 12).stdout
    assert "rows are shown" not in whole
    rows = json.loads(invoke("sql", store.path, QUERY, "--json").stdout)
    assert len(rows) == height  # nothing is cut where nobody is told


def test_a_table_of_endless_rows_shows_the_first(store: Store) -> None:
    endless = "SELECT hash(i) FROM range(100000000000) t(i)"
    result = invoke("sql", store.path, endless, "--max-rows", 3)
    assert result.exit_code == 0, result.output
    assert "only the first 3 rows are shown" in result.stdout


def test_what_has_no_form_ends_in_one_line(store: Store) -> None:
    for sql, way_out in (
        ("SELECT INTERVAL 1 DAY", "::VARCHAR"),
        ("SELECT [union_value(a := 1)]", "::VARCHAR"),
        ("SELECT top_tokens FROM features", "use --json"),
    ):
        result = invoke("sql", store.path, sql, "--csv")
        assert result.exit_code == 1
        assert result.stderr.startswith("trimtab: ")
        assert way_out in result.stderr


def test_a_call_that_cannot_be_interrupted_ends_with_the_process(store: Store) -> None:
    program = """
import sys
from functools import partial
from trimtab.cli import app
from trimtab.store.reading import limits
limits.limited_time = partial(limits.limited_time, 2)
app(["sql", sys.argv[1], "SELECT len(list_sort(range(20000000)))"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, store.path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done
    assert done.stderr.startswith("trimtab: the query was ended after 2 seconds")
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_info_counts_for_scripts(store: Store) -> None:
    found = json.loads(invoke("info", store.path, "--json").stdout)
    assert found["fingerprint"] == store.fingerprint
    assert {"n_samples", "n_tokens", "nnz", "bytes", "bytes_per_nnz", "shards"} <= found.keys()
    assert f"{found['nnz']:,} activations" in invoke("info", store.path).stdout


def test_verify_runs_samples_again_with_the_stores_model_or_where_it_is_now(
    tmp_path: Path, tiny_model: LanguageModel, texts: list[Sample]
) -> None:
    tiny_model.module.save_pretrained(tmp_path / "model")
    tiny_model.tokenizer.save_pretrained(tmp_path / "model")
    model = load_model(str(tmp_path / "model"), dtype="float32", device="cpu")
    store = build(tmp_path / "store", texts, model, None, progress=False)
    result = invoke("verify", store.path, "--recompute", 3, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "3 samples run again" in result.stdout
    shutil.move(tmp_path / "model", tmp_path / "moved")
    arguments = ("verify", store.path, "--recompute", 3, "--device", "cpu", "--json")
    assert invoke(*arguments).exit_code == 1
    moved = invoke(*arguments, "--model", tmp_path / "moved")
    assert moved.exit_code == 0, moved.output
    found = json.loads(moved.stdout)
    assert found["sound"]
    assert found["recomputed"]["n_samples"] == 3
