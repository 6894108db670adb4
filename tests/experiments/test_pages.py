"""The documents show what the studies' committed results say."""

import pytest

from experiments.pages import DOCS, DRAW, page


@pytest.mark.parametrize("name", DRAW)
def test_a_studys_page_is_what_its_results_make(name: str) -> None:
    text, figures = page(name)
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == text, (
        "write it again: python -m experiments.pages"
    )
    assert figures
    assert {file.name for file in (DOCS / name).iterdir()} == set(figures)
