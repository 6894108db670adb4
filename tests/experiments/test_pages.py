"""The documents show what the studies' committed results say."""

import pytest

from experiments.pages import DOCS, TABLES, page


@pytest.mark.parametrize("name", TABLES)
def test_a_studys_page_is_what_its_results_make(name: str) -> None:
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == page(name), (
        "write it again: python -m experiments.pages"
    )
