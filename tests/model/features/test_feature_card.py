"""Cards show what is in the row, and what is in the row cannot do anything."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from rich.console import Console, RenderableType

from trimtab.model.features.card import feature_card, feature_table
from trimtab.model.features.descriptions import relabel

Make = Callable[..., pl.DataFrame]
HOSTILE = " [bold]x[/bold]\x1b[31m\u202e[link=file:///etc]\n[/]"


def printed(renderable: RenderableType, *, colour: bool = False) -> str:
    console = Console(width=160, force_terminal=colour, color_system="standard" if colour else None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_card_shows_all_that_is_known(descriptions: Make) -> None:
    text = printed(feature_card(descriptions(5).row(4, named=True)))
    for expected in (
        "4  label 4 of word", "label: automatic", "2.00% of tokens", "1.50 on average", " word 75%",
        "⏎ 25%", "up4", "down4", "2.00", "so  word it",
    ):  # fmt: skip
        assert expected in text


def test_a_feature_that_never_fired_has_a_card(descriptions: Make) -> None:
    text = printed(feature_card(descriptions(5).row(3, named=True)))
    assert "never in the text that was read" in text
    assert "up3" in text


def test_the_token_of_a_context_is_highlighted(descriptions: Make) -> None:
    text = printed(feature_card(descriptions(1).row(0, named=True)), colour=True)
    assert "so \x1b[7m word\x1b[0m it" in text


@pytest.mark.parametrize("colour", [True, False])
def test_hostile_text_stays_text(descriptions: Make, colour: bool) -> None:
    table = relabel(descriptions(2, HOSTILE), {1: HOSTILE}, HOSTILE)
    rows = table.with_columns(contribution=pl.lit(0.5)).to_dicts()
    whole = [feature_card(rows[0]), feature_card(rows[1]), feature_table(rows)]
    for text in (printed(one, colour=colour) for one in whole):
        assert "[bold]x[/bold]" in text.replace("\n", "") or "[bold]" in text
        assert "\x1b[31m" not in text
        assert "\u202e" not in text
        assert "\x1b]8" not in text  # a link
        assert "\x1b[1mx" not in text


def test_tokens_without_shares_are_listed_alone(descriptions: Make) -> None:
    row: dict[str, Any] = descriptions(1).row(0, named=True)
    text = printed(feature_card({**row, "tokens": [" plain", "\n"]}))
    assert " plain  ⏎" in text
    assert "%" not in text.split("on  ")[1].splitlines()[0]


def test_a_table_names_where_a_label_is_from_unless_it_is_automatic(descriptions: Make) -> None:
    table = relabel(descriptions(2), {1: "weather"}, "neuronpedia")
    text = printed(feature_table(table.with_columns(contribution=pl.lit(0.25)).to_dicts()))
    assert "weather (neuronpedia)" in text
    assert "(automatic)" not in text
    assert "0.25" in text
