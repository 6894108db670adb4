"""Finding features by a phrase: what is known of them, ranked by likeness to it. Needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_union

from trimtab.errors import ModelError

Embed = Callable[[Sequence[str]], NDArray[np.float64]]
"""Takes texts and returns a row of unit length each, `(n, width)`."""

RUNS = (3, 5)  # letters of runs inside a word, so that "corrects" is near "correction"
WORDS = r"\b\w+\b|[^\w\s]+"  # signs are words: features fire on them


def search(
    table: pl.DataFrame, phrase: str, most: int = 10, *, embed: Embed | None = None
) -> pl.DataFrame:
    """Return the features nearest to a phrase, the nearest first.

    Args:
        table: of `descriptions.SCHEMA`.
        phrase: what is looked for.
        most: at most so many.
        embed: embeds labels and phrase. Without it words and runs of letters are compared, by
            TF-IDF: those of the label, of the tokens that a feature fires on and of those that it
            promotes.

    Returns:
        Columns `similarity` (cosine), `feature`, `label`, `label_source` and `firing_rate`; no
        feature that has nothing in common with the phrase, and none that never fired.

    Raises:
        ModelError: the phrase is empty.
    """
    if not phrase.strip():
        raise ModelError("a search needs a phrase to look for")
    table = table.filter(pl.col("firing_rate") > 0)
    near = _by_words(table, phrase) if embed is None else _by_labels(table, phrase, embed)
    columns = ("feature", "label", "label_source", "firing_rate")
    found = table.select(pl.Series("similarity", near, dtype=pl.Float64), *columns)
    found = found.filter(pl.col("similarity") > 0)
    return found.sort("similarity", "feature", descending=[True, False]).head(most)


def _by_words(table: pl.DataFrame, phrase: str) -> NDArray[np.float64]:
    if not table.height:
        return np.zeros(0)
    words: FeatureUnion = make_union(
        TfidfVectorizer(sublinear_tf=True, token_pattern=WORDS),
        TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=RUNS),
    )
    known = words.fit_transform([_document(row) for row in table.iter_rows(named=True)])
    near: NDArray[np.float64] = (known @ words.transform([phrase]).T).toarray()[:, 0]
    return near / len(words.transformer_list)


def _by_labels(table: pl.DataFrame, phrase: str, embed: Embed) -> NDArray[np.float64]:
    """Compare labels, each of which is embedded once."""
    labels = [label for label in table["label"].unique(maintain_order=True) if label.strip()]
    *known, asked = embed([*labels, phrase])
    near = dict(zip(labels, np.array(known).reshape(len(labels), -1) @ asked, strict=True))
    return np.array([near.get(label, 0.0) for label in table["label"]])


def _document(row: Mapping[str, Any]) -> str:
    """Return what is known of a feature in words; its label counts twice."""
    tokens = (shown["token"] for shown in row["tokens"])
    return " ".join([row["label"], row["label"], *tokens, *row["promotes"]])
