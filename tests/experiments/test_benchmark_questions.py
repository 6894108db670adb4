"""Benchmarks' files are read as they are, and no question stands on both sides of a split."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.benchmark_questions import (
    Problem,
    TruthfulQuestion,
    content_hash,
    drawn,
    halves,
    last_number,
    read_gsm8k,
    read_truthful,
    read_two_choices,
)
from trimtab.errors import PairsError

TRUTHFUL = {
    "question": "Do foxes fly? ",
    "mc0_targets": {"No.": 1, "Yes.": 0},  # the newer files have two choices, too
    "mc1_targets": {"No.": 1, "Yes.": 0},
    "mc2_targets": {"No.": 1, "They do not.": 1, "Yes.": 0},
}
PROBLEM = {"question": "Two and two?", "answer": "2 + 2 = <<2+2=4>>4, less 1,004\n#### -1,000"}
CHOICES = {
    "prompt": "Two and two?\n(A) 4\n(B) 5",
    "correct": "(A)",
    "incorrect": "(B)",
    "correct_full_text": "4",
    "incorrect_full_text": "5",
    "category": "elementary_mathematics",
}


def test_each_benchmark_is_read_from_a_list_and_from_lines(tmp_path: Path) -> None:
    for text in (json.dumps([TRUTHFUL]), json.dumps(TRUTHFUL) + "\n"):
        (tmp_path / "file").write_text(text, encoding="utf-8-sig")
        assert read_truthful(tmp_path / "file") == [
            TruthfulQuestion(
                "Do foxes fly?",
                {"No.": True, "Yes.": False},
                {"No.": True, "They do not.": True, "Yes.": False},
            )
        ]
    (tmp_path / "file").write_text(json.dumps(PROBLEM))
    assert read_gsm8k(tmp_path / "file") == [
        Problem("Two and two?", "2 + 2 = 4, less 1,004\n#### -1,000", -1000.0)
    ]
    (tmp_path / "file").write_text(json.dumps([CHOICES]))
    (one,) = read_two_choices(tmp_path / "file")
    assert (one.correct, one.incorrect_text, one.category) == ("(A)", "5", CHOICES["category"])


@pytest.mark.parametrize(
    ("read", "row", "why"),
    [
        (read_truthful, TRUTHFUL | {"mc1_targets": {"No.": 1}}, "a true answer and a false one"),
        (read_truthful, TRUTHFUL | {"mc2_targets": {"No.": "x"}}, "each with 0 or 1"),
        (read_truthful, TRUTHFUL | {"mc2_targets": {"No.": []}}, "each with 0 or 1"),
        (read_truthful, {"query": "?"}, "'question' must be a text; there are query"),
        (read_gsm8k, PROBLEM | {"answer": "It is four."}, "line of #### and a number"),
        (read_gsm8k, PROBLEM | {"answer": "#### four"}, "line of #### and a number"),
        (read_two_choices, CHOICES | {"incorrect": "(A)"}, "are the same"),
        (read_two_choices, CHOICES | {"category": 3}, "'category' must be a text"),
    ],
)
def test_a_row_of_another_form_is_refused_with_its_place(
    read: Callable[[Path], Any], row: dict[str, Any], why: str, tmp_path: Path
) -> None:
    good: Any = {"truthful": TRUTHFUL, "gsm8k": PROBLEM, "two": CHOICES}[
        read.__name__.split("_")[1]
    ]
    (tmp_path / "file.json").write_text(json.dumps([good, row]))
    with pytest.raises(PairsError, match=rf"file\.json, row 2: .*{why}"):
        read(tmp_path / "file.json")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 - 3 = 2", 2.0),
        ("#### 1,234.50", 1234.5),
        ("It costs $40.", 40.0),
        ("-$7", -7.0),
        ("#### -3", -3.0),
        ("16-3", 3.0),  # a difference, and not minus three
        ("none", None),
        ("", None),
    ],
)
def test_the_last_number_is_the_answer(text: str, number: float | None) -> None:
    assert last_number(text) == number


def problems(n: int) -> list[Problem]:
    return [Problem(f"How many is {i}?", "", float(i)) for i in range(n)]


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 5))
def test_halves_share_no_question_whatever_the_files_order(n: int, most: int, seed: int) -> None:
    one, other = halves(problems(n), most, seed)
    assert len(one) + len(other) == min(n, most)
    assert 0 <= len(one) - len(other) <= 1
    assert not {p.question for p in one} & {p.question for p in other}
    assert halves(problems(n)[::-1], most, seed) == (one, other)


def test_a_question_that_comes_again_counts_once() -> None:
    again = [*problems(3), Problem("how  many is 1?", "again", 1.0)]
    assert sorted(drawn(again, 9, 0), key=lambda p: p.number) == problems(3)


def test_of_questions_on_one_passage_one_is_drawn() -> None:
    passage = "This question refers to the following information.\n" + "To all men. " * 12
    same = [Problem(f"{passage}\nWhich {i}?", "", float(i)) for i in range(5)]
    for most in (4, 9):
        found = [p for half in halves([*problems(6), *same], most, 0) for p in half]
        assert sum(p.question.startswith(passage) for p in found) <= 1
        assert len(found) == min(most, 7)


def test_what_is_asked_and_how_has_a_name_of_its_own() -> None:
    assert content_hash(problems(3)) == content_hash(problems(3))
    assert len({content_hash(problems(3)), content_hash([*problems(3), "a system prompt"])}) == 2
