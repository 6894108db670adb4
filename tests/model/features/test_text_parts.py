"""A token's part follows from its text and its place."""

import pytest
import torch

from trimtab.model.features.parts import BEGINNING, PARTS, Parts

TEXTS = [
    "The",
    " end",
    ".",
    '."',
    "\n\n",
    "7",
    " 42",
    " NASA",
    "ing",
    " naïve",
    "!?",
    " I",
    " ",
    "x",
]
FAR = BEGINNING + 5


def parts_of(token: str, previous: str, position: int = FAR) -> set[str]:
    one, before = (torch.tensor([TEXTS.index(text)]) for text in (token, previous))
    found = Parts(TEXTS)(one, before, torch.tensor([position]))[:, 0]
    return {part for part, holds in zip(PARTS, found.tolist(), strict=True) if holds}


@pytest.mark.parametrize(
    ("token", "previous", "parts"),
    [
        ("The", ".", {"capitalised", "sentence starts"}),
        ("The", '."', {"capitalised", "sentence starts"}),
        ("The", "\n\n", {"capitalised", "sentence starts"}),
        (" I", " end", {"capitalised"}),
        (" end", "The", set()),
        (".", " end", {"punctuation"}),
        ("!?", ".", {"punctuation"}),
        ("\n\n", ".", {"line breaks"}),
        ("7", " ", {"digits"}),
        (" 42", " end", {"digits"}),
        (" NASA", " end", {"capitals"}),
        ("ing", " end", {"inside words"}),
        ("ing", " ", set()),
        (" naïve", " end", {"letters beyond ASCII"}),
        (" ", " end", set()),
        ("x", "7", set()),
    ],
)
def test_a_token_is_of_these_parts(token: str, previous: str, parts: set[str]) -> None:
    assert parts_of(token, previous) == parts


def test_the_first_positions_are_the_beginning() -> None:
    assert parts_of(" end", "The", BEGINNING - 1) == {"text beginnings"}
    assert parts_of(" end", "The", BEGINNING) == set()
