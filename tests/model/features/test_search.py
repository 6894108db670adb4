"""Features are found by what their labels and tokens say, or by an endpoint's embeddings."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import descriptions_file, read_descriptions
from trimtab.model.features.search import search

LABELS = ("saying sorry", "medical treatment", "“ the”", "numbers and dates", "")


@pytest.fixture
def table(descriptions: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    made = descriptions(len(LABELS))
    return made.with_columns(
        label=pl.Series(LABELS),
        firing_rate=pl.lit(0.1, dtype=pl.Float32),
        tokens=pl.lit([], dtype=made.schema["tokens"]),
        promotes=pl.lit([], dtype=made.schema["promotes"]),
    )


@pytest.mark.parametrize(
    ("phrase", "nearest"),
    [
        ("apologies: sorry", "saying sorry"),
        ("how to treat patients with medicine", "medical treatment"),  # parts of words
        ("a date", "numbers and dates"),
    ],
)
def test_the_label_most_like_the_phrase_comes_first(
    table: pl.DataFrame, phrase: str, nearest: str
) -> None:
    found = search(table, phrase)
    assert found["label"][0] == nearest
    assert found["similarity"].is_sorted(descending=True)
    assert found["similarity"].is_between(0, 1 + 1e-9).all()


def test_a_label_is_as_like_itself_as_can_be(table: pl.DataFrame) -> None:
    assert search(table, "medical treatment")["similarity"][0] == pytest.approx(1, abs=0.05)


def test_tokens_that_a_feature_fires_on_are_found_too(table: pl.DataFrame) -> None:
    fires = pl.Series([[{"token": " yacht", "share": 0.5}], [], [], [], []])
    told = table.with_columns(tokens=fires.cast(table.schema["tokens"]))
    assert search(told, "yachts")["feature"].to_list() == [0]


def test_features_that_never_fired_and_ones_with_nothing_in_common_are_left_out(
    table: pl.DataFrame,
) -> None:
    silent = table.with_columns(
        firing_rate=pl.when(pl.col("label") == "saying sorry").then(0.0).otherwise(0.1)
    )
    assert search(silent, "sorry").height == 0
    assert search(table, "xyzzy").height == 0
    assert search(table.clear(), "sorry").height == 0
    assert search(table, "the numbers", most=1).height == 1


def test_embeddings_compare_labels_alone_and_each_of_them_once(table: pl.DataFrame) -> None:
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> NDArray[np.float64]:
        asked.extend(texts)
        return np.array(
            [[1.0, 0.0] if "medical" in t or t == "a doctor" else [0.0, 1.0] for t in texts]
        )

    twice = pl.concat([table, table.with_columns(feature=pl.col("feature") + 5)])
    found = search(twice, "a doctor", embed=embed)
    assert found["feature"].to_list() == [1, 6]
    assert sorted(asked) == sorted([*filter(None, LABELS), "a doctor"])


def test_signs_and_line_breaks_are_found_as_texts_have_them(table: pl.DataFrame) -> None:
    signs = table.with_columns(label=pl.Series(["“,”", "“⏎”", "“)”", "“.”", "“ the”"]))
    for phrase, feature in (("yes,", 0), ("end\n", 1), (" (a)", 2)):
        assert search(signs, phrase)["feature"][0] == feature


def test_without_labels_nothing_is_embedded(table: pl.DataFrame) -> None:
    bare = table.with_columns(label=pl.lit(""))
    assert search(bare, "sorry", embed=lambda _: pytest.fail("asked")).height == 0


def test_a_search_for_nothing_is_refused(table: pl.DataFrame) -> None:
    with pytest.raises(ModelError, match="phrase"):
        search(table, "  ")


def test_the_packaged_labels_can_be_searched() -> None:
    file = descriptions_file("default")
    assert file is not None
    found = search(read_descriptions(file), "saying sorry", 5)
    assert found.height == 5
    assert "sorry" in found["label"][0]
