import string
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import PairsError
from trimtab.pairs import Sample, normalise_prompt

USER = {"role": "user", "content": "Hi"}


def test_the_prompt_is_the_last_user_message() -> None:
    messages = (
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "reply"},
        {"role": "user", "content": "second"},
    )
    assert Sample("x", "b", messages, "yes", "no").prompt == "second"
    assert Sample("x", "b", (), "yes", "no").prompt == ""


def test_a_sample_with_one_side_is_no_pair() -> None:
    pair = Sample("x", "b", (USER,), "yes", "no")
    text = Sample("x", "b", (), None, "no")
    assert pair.is_pair
    assert pair.sides == (("positive", "yes"), ("negative", "no"))
    assert not text.is_pair
    assert text.sides == (("negative", "no"),)


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [
        ("(A)", "(B)", True),
        (" B", " A", True),
        ("A.", "( B )", True),
        (" Yes", " No", False),
        ("(A) Yes", "(B) No", False),
        ("(A)", "No", False),
        ("I", "we", False),
    ],
)
def test_single_letter_answers_are_told_from_words(
    positive: str, negative: str, expected: bool
) -> None:
    assert Sample("x", "b", (USER,), positive, negative).single_letter is expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positive": None, "negative": None}, "neither"),
        ({"positive": " \n"}, "positive completion is empty"),
        ({"negative": ""}, "negative completion is empty"),
        ({"positive": " no "}, "the same"),
        ({"positive": "half \ud83d"}, "surrogate"),
        ({"messages": ({"role": "user", "content": "\udc00"},)}, "surrogate"),
        ({"messages": ({"role": "user"},)}, "message 1"),
        ({"messages": ({"role": "robot", "content": "Hi"},)}, "message 1"),
        ({"messages": ({"role": "user", "content": 3},)}, "must be text"),
        ({"messages": (USER, {"role": "assistant", "content": "Hello"})}, "last message"),
    ],
)
def test_a_sample_that_contrasts_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"messages": (USER,), "positive": "yes", "negative": "no"}
    with pytest.raises(PairsError, match=message):
        Sample("x", "b", **good | fields)


def test_the_content_hash_covers_what_reaches_the_model_and_nothing_else() -> None:
    base = Sample("x", "b", (USER,), "yes", "no")
    system = {"role": "system", "content": "Be kind."}
    others = [
        Sample("x", "b", (), "yes", "no"),
        Sample("x", "b", (system, USER), "yes", "no"),
        Sample("x", "b", (USER,), "yes ", "no"),
        Sample("x", "b", (USER,), "no", "yes"),
        Sample("x", "b", (USER,), "yes", None),
    ]
    assert len({sample.content_hash() for sample in [base, *others]}) == 6
    renamed = Sample("y", "c", (USER,), "yes", "no", group="g", meta={"note": 1})
    assert renamed.content_hash() == base.content_hash()
    assert len(base.content_hash()) == 64


WORDS = st.lists(st.text("abcéßжकि数", min_size=1, max_size=5), min_size=1, max_size=6)


@given(WORDS, st.text(string.punctuation.translate(str.maketrans("", "", "$+<=>^`|~")) + " \t\n—”"))
def test_normalising_ignores_case_punctuation_and_white_space(words: list[str], noise: str) -> None:
    plain = normalise_prompt(" ".join(words))
    noisy = noise + f" {noise} ".join(words).upper() + noise
    assert normalise_prompt(noisy) == normalise_prompt(" ".join(words).upper()) == plain


def test_normalising_keeps_apart_what_differs() -> None:
    texts = ["2 + 2", "2 = 2", "की", "के", "cafe", "café", "?", "!", "no", "no no", ""]
    assert len({normalise_prompt(text) for text in texts}) == len(texts)


def test_importing_pairs_imports_neither_torch_nor_sae_lens() -> None:
    code = (
        "import sys, trimtab.pairs;"
        "sys.exit(bool({'torch', 'sae_lens', 'transformers'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
