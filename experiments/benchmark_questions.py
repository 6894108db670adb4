"""Questions of public benchmarks, as the benchmarks' own files hold them; draws and halves of them.

Of questions that begin alike only one is drawn, so that items are independent and no half knows
the other's: the same one in another case or spacing, several on one passage, or on one template.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from trimtab.pairs import Message, normalise_prompt
from trimtab.pairs.readers.rows import Row, read_json

NUMBER = re.compile(r"(?:(?<![\w)])-)?\$?(\d[\d,]*(?:\.\d+)?)")
FINAL = re.compile(r"####\s*(\S+)\s*$")
OPENING = 150  # letters; questions on one passage share more, and others of MMLU never so many
CALCULATOR = re.compile(r"<<[^>]*>>")  # GSM8K's notes for a tool, "<<16-3=13>>"


class Question(Protocol):
    """Anything that is asked."""

    @property
    def question(self) -> str:
        """What is asked."""


Q = TypeVar("Q", bound=Question)


@dataclass(frozen=True)
class TruthfulQuestion:
    """A question of TruthfulQA (Lin et al. 2022, https://arxiv.org/abs/2109.07958).

    Attributes:
        question: what is asked.
        mc1: answers, and whether each is true; one of them is.
        mc2: answers of which several may be true: the benchmark's references, too.
    """

    question: str
    mc1: Mapping[str, bool]
    mc2: Mapping[str, bool]


@dataclass(frozen=True)
class Problem:
    """A problem of GSM8K (Cobbe et al. 2021, https://arxiv.org/abs/2110.14168).

    Attributes:
        question: what is asked.
        solution: worked out, its last line `#### n`; without the notes for a calculator.
        number: that n.
    """

    question: str
    solution: str
    number: float


@dataclass(frozen=True)
class TwoChoices:
    """A question with its choices (A) and (B), as CAA has made them of MMLU.

    Attributes:
        question: with the choices.
        correct: the letter in its brackets.
        incorrect: the other one.
        correct_text: the answer spelled out.
        incorrect_text: the other one.
        category: the subject of MMLU.
    """

    question: str
    correct: str
    incorrect: str
    correct_text: str
    incorrect_text: str
    category: str


def read_truthful(file: Path) -> list[TruthfulQuestion]:
    """Read TruthfulQA's `mc_task.json`.

    Raises:
        PairsError: the file cannot be read, or a row is no such question.
    """
    return [
        TruthfulQuestion(_text(row, "question"), _targets(row, "mc1"), _targets(row, "mc2"))
        for row in read_json(file)
    ]


def read_gsm8k(file: Path) -> list[Problem]:
    """Read GSM8K's JSONL.

    Raises:
        PairsError: the file cannot be read, or a row is no such problem.
    """
    found = []
    for row in read_json(file):
        solution = CALCULATOR.sub("", _text(row, "answer"))
        final = FINAL.search(solution)
        number = last_number(final[1]) if final else None
        if number is None:
            raise row.error("'answer' must end in a line of #### and a number, as GSM8K's do")
        found.append(Problem(_text(row, "question"), solution.strip(), number))
    return found


def read_two_choices(file: Path) -> list[TwoChoices]:
    """Read questions as CAA's `mmlu.json` has them.

    Raises:
        PairsError: the file cannot be read, or a row is no such question.
    """
    found = []
    for row in read_json(file):
        one = TwoChoices(
            _text(row, "prompt"),
            _text(row, "correct"),
            _text(row, "incorrect"),
            _text(row, "correct_full_text"),
            _text(row, "incorrect_full_text"),
            _text(row, "category"),
        )
        if one.correct == one.incorrect or one.correct_text == one.incorrect_text:
            raise row.error("the correct and the incorrect answer are the same")
        found.append(one)
    return found


def last_number(text: str) -> float | None:
    """Return the last number of a text, as 1,234.5, -3 or $40; None where it has none."""
    found = list(NUMBER.finditer(text))
    if not found:
        return None
    value = float(found[-1][1].replace(",", ""))
    return -value if found[-1][0].startswith("-") else value


def drawn(questions: Sequence[Q], most: int, seed: int) -> list[Q]:
    """Draw at most so many questions, in an order that their file does not decide.

    Of those that begin alike the file's first one stands for all.
    """
    distinct = {normalise_prompt(one.question)[:OPENING]: one for one in reversed(questions)}

    def order(name: str) -> bytes:
        return hashlib.sha256(f"{seed} {name}".encode()).digest()

    return [distinct[name] for name in sorted(distinct, key=order)[:most]]


def halves(questions: Sequence[Q], most: int, seed: int) -> tuple[list[Q], list[Q]]:
    """Draw at most so many questions, and split them: to choose by, and to report on."""
    some = drawn(questions, most, seed)
    return some[::2], some[1::2]


def user(text: str) -> list[Message]:
    """Return a conversation in which a user has said this."""
    return [{"role": "user", "content": text}]


def content_hash(asked: Sequence[object]) -> str:
    """Return a short name of questions and how they are asked, the same for the same ones."""
    return hashlib.sha256(repr(list(asked)).encode()).hexdigest()[:24]


def _text(row: Row, key: str) -> str:
    value = row.values.get(key)
    if not isinstance(value, str) or not value.strip():
        raise row.error(f"{key!r} must be a text; there are {', '.join(row.values)}")
    return value.strip()


def _targets(row: Row, kind: str) -> dict[str, bool]:
    found = row.values.get(f"{kind}_targets")
    if not isinstance(found, dict) or not all(value in (0, 1) for value in found.values()):
        raise row.error(f"'{kind}_targets' must be an object of answers, each with 0 or 1")
    if set(found.values()) != {0, 1}:
        raise row.error(f"'{kind}_targets' needs a true answer and a false one")
    return {answer: bool(value) for answer, value in found.items()}
