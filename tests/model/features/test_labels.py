"""Labels say what is true of their row, and say so in a few words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.model.features.labels import LONGEST, NEVER, RAREST_FIRST, automatic_label
from trimtab.model.features.parts import PARTS

NONSENSE = ["ond", " q", "zz", " tre", "pl", " vex", "um", " ish"]


def row(
    tokens: dict[str, float],
    *,
    after: dict[str, float] | None = None,
    before: dict[str, float] | None = None,
    parts: dict[str, float] | None = None,
    promotes: list[str] | None = None,
    peaks: list[str] | None = None,
    rate: float = 0.01,
) -> dict[str, Any]:
    def shares(of: dict[str, float] | None) -> list[dict[str, Any]]:
        return [{"token": token, "share": share} for token, share in (of or {}).items()]

    return {
        "firing_rate": rate,
        "tokens": shares(tokens),
        "preceded_by": shares(after),
        "followed_by": shares(before),
        "parts": [{"part": part, "share": share} for part, share in (parts or {}).items()],
        "promotes": promotes or NONSENSE,
        "contexts": [{"token": token} for token in peaks or []],
    }


MIXED = {" he": 0.1, " cat": 0.08, "ing": 0.05, " of": 0.04}


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        (row({}, rate=0.0), NEVER),
        (row({" because": 0.9, " since": 0.1}), "“ because”"),
        (row({" of": 0.9}, after={" because": 0.8}), "“ of” after “ because”"),
        (row({" kind": 0.9}, before={" of": 0.8}), "“ kind” before “ of”"),
        (row({" because": 0.5, "Because": 0.3}), "“because”"),
        (row({" make": 0.3, " making": 0.2, " makes": 0.2}), "forms of “make”"),
        (row({" her": 0.3, " here": 0.3, " the": 0.1}), "tokens: her, here"),  # not forms of one
        (row({" he": 0.3, " she": 0.2, " they": 0.2, " it": 0.1}), "tokens: he, she, they"),
        (row({".": 0.4, "!": 0.2, ",": 0.1}), "tokens: “.”, “!”"),
        (row({"\n": 0.8}), "“⏎”"),
        (row({"    ": 0.8}), "4 spaces"),
        (row({"1": 0.2, "2": 0.15, "7": 0.1}, parts={"digits": 0.9}), "digits: 1, 2, 7"),
        (
            row({" John": 0.1, " Mary": 0.1}, parts={"capitalised": 0.9, "inside words": 0.3}),
            "capitalised: John, Mary",
        ),
        (
            row({"The": 0.2, "In": 0.2}, parts={"capitalised": 0.9, "sentence starts": 0.8}),
            "sentence starts: The, In",
        ),
        (row({" same": 0.1, " first": 0.1}, after={" the": 0.7}), "after “ the”: same, first"),
        (row({" kind": 0.1, " sort": 0.1}, before={" of": 0.7}), "before “ of”: kind, sort"),
        (row({" is": 0.1}, after={" he": 0.3, " she": 0.3, " it": 0.3}), "after: he, she"),
        (
            row(
                dict.fromkeys(
                    [" early", " late", " last", " soon", " first", " final", " next"], 0.1
                )
            ),
            "tokens: early, late, last, soon, …",
        ),
        (
            row(MIXED, peaks=[" depends", "depend", " Depends", " relies", " depending"]),
            "strongest on forms of “depends”",
        ),
        (row(MIXED, peaks=[" drugs"] * 4 + [" pills"]), "strongest on “drugs”"),
        (
            row(
                MIXED,
                before={" of": 0.2},
                promotes=["ond", " of"],
                peaks=[" way", " level", "kind"],
            ),
            "promotes “of”: way, level, kind",
        ),
        (
            row(MIXED, peaks=[" Indian", " Dutch", " Indian", " Spanish", ","]),
            "mixed: Indian, Dutch, Spanish, “,”",
        ),
        (row({" the": 0.1, " of": 0.1}, rate=0.31), "dense (31% of tokens): the, of"),
        (row(MIXED), "mixed: he, cat, ing, of"),
        (row({"�": 0.9}), "“�”"),
    ],
)
def test_each_kind_of_feature_gets_its_label(facts: dict[str, Any], label: str) -> None:
    assert automatic_label(facts) == label


def test_nothing_is_claimed_of_what_is_not_most_of_it() -> None:
    half = row(
        {" because": 0.5, " cat": 0.02},
        after={" the": 0.5},
        before={" and": 0.3},
        parts={"digits": 0.55},
        promotes=[" because", "because", " Because", *NONSENSE[:5]],
        peaks=[" because", " because", " because", " dog", " cat"],
        rate=0.19,
    )
    assert automatic_label(half) == "mixed: because, dog, cat"


text = st.text(max_size=30)
few = st.dictionaries(text, st.floats(0, 0.5), max_size=10)


@given(
    few,
    few,
    few,
    st.dictionaries(st.sampled_from(PARTS), st.floats(0, 1)),
    st.lists(text, max_size=8),
    st.lists(text, max_size=5),
    st.floats(0, 1),
)
def test_whatever_the_tokens_are_a_label_is_short_and_on_one_line(
    tokens: dict[str, float],
    after: dict[str, float],
    before: dict[str, float],
    parts: dict[str, float],
    promotes: list[str],
    peaks: list[str],
    rate: float,
) -> None:
    facts = row(
        tokens,
        after=after, before=before, parts=parts, promotes=promotes, peaks=peaks, rate=rate,
    )  # fmt: skip
    label = automatic_label(facts)
    assert 0 < len(label) <= LONGEST
    assert label.isprintable()
    assert automatic_label(facts) == label


def test_every_part_has_its_place_in_the_order() -> None:
    assert sorted(RAREST_FIRST) == sorted(PARTS)
