"""Pools: pairs, half pairs and bare prompts, from whatever file."""

import json
from pathlib import Path

import polars as pl
import pytest

from trimtab.errors import PairsError
from trimtab.pairs import Sample
from trimtab.pairs.groups import group_key
from trimtab.pairs.readers.pool import Prospect, read_pool


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_prospect_may_lack_completions(tmp_path: Path) -> None:
    pool = written(
        tmp_path / "pool.jsonl",
        {"prompt": "One?", "positive": "Yes.", "negative": "No."},
        {"id": "second", "prompt": "Two?", "positive": "Yes.", "negative": None},
        {"prompt": "Three?", "negative": " "},
        {"messages": [{"role": "user", "content": "Four?"}]},
    )
    found = read_pool(pool)
    assert [one.id for one in found] == [
        "prospect-0001",
        "second",
        "prospect-0003",
        "prospect-0004",
    ]
    assert [one.prompt for one in found] == ["One?", "Two?", "Three?", "Four?"]
    assert [(one.positive, one.negative) for one in found] == [
        ("Yes.", "No."), ("Yes.", None), (None, None), (None, None),
    ]  # fmt: skip
    assert [one.is_pair for one in found] == [True, False, False, False]


def test_a_pair_needs_no_prompt(tmp_path: Path) -> None:
    (found,) = read_pool(
        written(tmp_path / "p.jsonl", {"prompt": "", "positive": "Yes.", "negative": "No."})
    )
    assert found == Prospect("prospect-0001", (), "Yes.", "No.")


def test_lines_of_a_text_are_prompts(tmp_path: Path) -> None:
    (tmp_path / "pool.txt").write_text("One?\n\nTwo?\n")
    assert [one.prompt for one in read_pool(tmp_path / "pool.txt")] == ["One?", "Two?"]


def test_tables_and_caas_rows_are_read_as_pairs_are(tmp_path: Path) -> None:
    table = pl.DataFrame({"prompt": ["One?", "Two?"], "positive": ["Yes.", None]})
    table.write_csv(tmp_path / "pool.csv")
    table.write_parquet(tmp_path / "pool.parquet")
    for name in ("pool.csv", "pool.parquet"):
        found = read_pool(tmp_path / name)
        assert [(one.prompt, one.positive) for one in found] == [("One?", "Yes."), ("Two?", None)]
    (caa,) = read_pool(
        written(
            tmp_path / "caa.json",
            {"question": "Q?", "answer_matching_behavior": "(A)",
             "answer_not_matching_behavior": "(B)"},
        )
    )  # fmt: skip
    assert (caa.prompt, caa.positive, caa.negative) == ("Q?", "(A)", "(B)")


def test_a_prospect_belongs_to_the_group_that_it_would_join() -> None:
    messages = ({"role": "user", "content": "Which one? (A) this (B) that"},)
    sample = Sample("1", "b", messages, "(A)", "(B)")
    assert Prospect("1", messages).group_key == group_key(sample)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"positive": "Yes.", "negative": "No."}], "no 'prompt'"),
        ([{"prompt": ""}], "neither a prompt nor two completions"),
        ([{"prompt": "", "positive": "Yes."}], "neither a prompt nor two completions"),
        ([{"prompt": "One?", "positive": 3}], "must be text"),
        ([{"prompt": "One?", "positive": "Yes.", "negative": "Yes."}], "are the same"),
        ([{"messages": [{"role": "assistant", "content": "Hm."}]}], "must be the user's"),
        ([{"id": "x", "prompt": "One?"}, {"id": "x", "prompt": "Two?"}], "'x' occurs twice"),
    ],
)
def test_a_row_that_is_no_prospect_is_named(
    tmp_path: Path, rows: list[object], complaint: str
) -> None:
    pool = written(tmp_path / "pool.jsonl", *rows)
    with pytest.raises(PairsError, match=complaint) as error:
        read_pool(pool)
    assert "pool.jsonl" in str(error.value)
