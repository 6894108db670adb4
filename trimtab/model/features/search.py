"""Finding features by a phrase: what is known of them, ranked by likeness to it. Needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_union

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import visible

Embed = Callable[[Sequence[str]], NDArray[np.float64]]
"""Takes texts and returns a row of unit length each, `(n, width)`."""

RUNS = (3, 5)  # letters of runs inside a word, so that "corrects" is near "correction"
WORDS = r"\b\w+\b|[“”]|[^\w\s“”]+"  # signs are words, and labels' quotes none of theirs


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
    if embed is None:
        near = by_words([document(row) for row in table.iter_rows(named=True)], [phrase])[:, 0]
    else:
        near = _by_labels(table["label"].to_list(), phrase, embed)
    columns = ("feature", "label", "label_source", "firing_rate")
    found = table.select(pl.Series("similarity", near, dtype=pl.Float64), *columns)
    found = found.filter(pl.col("similarity") > 0)
    return found.sort("similarity", "feature", descending=[True, False]).head(most)


def by_words(documents: Sequence[str], phrases: Sequence[str]) -> NDArray[np.float64]:
    """Return how like documents are to phrases, by words and by runs of letters.

    Both weigh the same, each by the cosine of its TF-IDF; line breaks count as the signs that
    labels show for them.

    Returns:
        `(n_documents, n_phrases)`, from 0 to 1.
    """
    if not documents:
        return np.zeros((0, len(phrases)))
    words: FeatureUnion = make_union(
        TfidfVectorizer(sublinear_tf=True, token_pattern=WORDS),
        TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=RUNS),
    )
    known = words.fit_transform([visible(text) for text in documents])
    asked = words.transform([visible(phrase) for phrase in phrases])
    near: NDArray[np.float64] = (known @ asked.T).toarray() / len(words.transformer_list)
    return near


def document(row: Mapping[str, Any]) -> str:
    """Return what is known of a feature in words; its label counts twice.

    Args:
        row: of `descriptions.SCHEMA`.
    """
    tokens = (shown["token"] for shown in row["tokens"])
    return " ".join([row["label"], row["label"], *tokens, *row["promotes"]])


def _by_labels(labels: Sequence[str], phrase: str, embed: Embed) -> NDArray[np.float64]:
    """Compare labels, each of which is embedded once; an empty one is like nothing."""
    known = [label for label in dict.fromkeys(labels) if label.strip()]
    if not known:
        return np.zeros(len(labels))
    rows = embed([*known, phrase])
    near = dict(zip(known, rows[:-1] @ rows[-1], strict=True))
    return np.array([near.get(label, 0.0) for label in labels])
