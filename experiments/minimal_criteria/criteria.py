"""What can be seen of a pair before anything is measured, one number each."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from experiments.subject import Subject
from trimtab.pairs import Sample
from trimtab.pairs.readers.caa_spelled import POSITIVE_CHOICE

Floats = NDArray[np.float64]
Criterion = Callable[[Subject], Floats]
"""Takes a behaviour and returns a number a pair of its `select`, `(n,)`; NaN where it has none."""


def size_of_difference(subject: Subject) -> Floats:
    """Length of the difference of the residual."""
    lengths: Floats = subject.parts.residual.norm(dim=1).double().numpy()
    return lengths


def agreement(subject: Subject) -> Floats:
    """Cosine to the mean difference of the other pairs."""
    rows = subject.parts.residual.double()
    others = (rows.sum(0) - rows) / (len(rows) - 1)
    return torch.nn.functional.cosine_similarity(rows, others, dim=1).numpy()


def features_that_differ(subject: Subject) -> Floats:
    """Share of the SAE's features that differ between the sides."""
    assert subject.parts.features is not None
    return (subject.parts.features != 0).double().mean(1).numpy()


def base_margin(subject: Subject) -> Floats:
    """Margin of the unsteered model: how far it prefers the positive side already."""
    return subject.base_of_select


def length(subject: Subject) -> Floats:
    """Words of both completions."""
    return _each(subject, lambda s: sum(len(text.split()) for _, text in s.sides))


def difference_in_length(subject: Subject) -> Floats:
    """By how many words the completions differ in length."""

    def apart(sample: Sample) -> float:
        lengths = [len(text.split()) for _, text in sample.sides]
        return max(lengths) - min(lengths)

    return _each(subject, apart)


def shared_words(subject: Subject) -> Floats:
    """Words that both completions have, as a share of all that either has."""

    def jaccard(sample: Sample) -> float:
        one, other = ({word.lower() for word in text.split()} for _, text in sample.sides)
        return len(one & other) / len(one | other)

    return _each(subject, jaccard)


def typical_topic(subject: Subject) -> Floats:
    """Cosine of the prompt's TF-IDF to the mean of the other prompts'."""
    words = TfidfVectorizer(sublinear_tf=True)
    rows = words.fit_transform([sample.prompt for sample in subject.material.select]).toarray()
    others = rows.sum(0) - rows
    lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(rows, axis=1)
    return np.asarray((rows * others).sum(1) / np.maximum(lengths, 1e-12))


def positive_is_first_choice(subject: Subject) -> Floats:
    """Whether the positive answer stood first among the choices that its question had."""

    def first(sample: Sample) -> float:
        letter = sample.meta.get(POSITIVE_CHOICE)
        return float("nan") if letter is None else float(letter == "A")

    return _each(subject, first)


CRITERIA: dict[str, Criterion] = {
    "size of the difference": size_of_difference,
    "agreement with the others": agreement,
    "features that differ": features_that_differ,
    "margin of the unsteered model": base_margin,
    "length": length,
    "difference in length": difference_in_length,
    "words shared by the sides": shared_words,
    "how typical the topic is": typical_topic,
    "positive is the first choice": positive_is_first_choice,
}


def _each(subject: Subject, of: Callable[[Sample], float]) -> Floats:
    samples: Sequence[Sample] = subject.material.select
    return np.array([float(of(sample)) for sample in samples])
