"""A text classifier, trained on the pairs' own completions, as a judge.

Two ways to look at a text, the first that is reliable is used; the other is a second opinion:

- `words`: TF-IDF of words and letter groups, which knows nothing of the model.
- `reading`: the unsteered model reads the bare text, without its prompt, and the mean of its
  residual at three quarters of its depth is classified. More accurate where a behaviour has no
  vocabulary of its own; it shares the model's notions with the vectors that it judges, so look at
  the replies before believing it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from trimtab.errors import SelectionError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.pooling import mean_residuals
from trimtab.model.render import render
from trimtab.pairs import Sample
from trimtab.steering.judges.judge import RELIABLE_ACCURACY, Conversations

Kind = Literal["words", "reading"]


@dataclass(frozen=True, eq=False)
class BehaviorClassifier:
    """Tells positive from negative completions.

    Attributes:
        kind: what it looks at.
        accuracy: balanced over the sides, cross-validated on the completions with whole groups of
            pairs held out.
        n_texts: how many it was trained on.
    """

    kind: Kind
    pipeline: Pipeline
    model: LanguageModel
    accuracy: float
    n_texts: int

    @property
    def reliable(self) -> bool:
        """Whether the accuracy suffices to judge replies."""
        return self.accuracy >= RELIABLE_ACCURACY

    def probability(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that each text shows the behaviour, `(n,)`; 0 for an empty one."""
        spoken = [i for i, text in enumerate(texts) if text.strip()]
        probabilities = np.zeros(len(texts))
        if spoken:
            looked_at = _look(self.kind, self.model, [texts[i] for i in spoken])
            probabilities[spoken] = self.pipeline.predict_proba(looked_at)[:, 1]
        return probabilities

    def shows(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return whether each text shows the behaviour, `(n,)`."""
        shown: NDArray[np.bool_] = self.probability(texts) > 0.5
        return shown


@dataclass(frozen=True, eq=False)
class TextJudge:
    """Judges replies by a text classifier alone, whatever they answer."""

    classifier: BehaviorClassifier
    way_out: str = (
        "let a language model judge (--judge-model and --judge-url), or ask open questions of "
        "another kind (--questions)"
    )

    @property
    def name(self) -> str:
        """Says by what it judges."""
        return f"text classifier by {self.classifier.kind}"

    @property
    def accuracy(self) -> float:
        """The classifier's, cross-validated."""
        return self.classifier.accuracy

    @property
    def reliable(self) -> bool:
        """Whether the accuracy suffices."""
        return self.classifier.reliable

    def shows(self, conversations: Conversations, replies: Sequence[str]) -> NDArray[np.bool_]:
        """Return whether each reply shows the behaviour, `(n,)`; conversations are not read."""
        assert len(conversations) == len(replies)
        return self.classifier.shows(replies)


def other_kind(kind: Kind) -> Kind:
    """Return the other way to look at a text."""
    (other,) = set(get_args(Kind)) - {kind}
    return other  # type: ignore[no-any-return]


def train_classifier(
    samples: Sequence[Sample], model: LanguageModel, kind: Kind | None = None
) -> BehaviorClassifier:
    """Train on the completions of `samples`: by words if that is reliable, else the better way.

    Args:
        samples: pairs or unpaired texts, with their groups.
        model: reads texts, where words do not do.
        kind: train this one instead of choosing.

    Raises:
        SelectionError: one side has no completion, or no group can be held out without losing one.
    """
    texts, labels, groups = [], [], []
    for sample in samples:
        for side, text in sample.sides:
            texts.append(text)
            labels.append(side == "positive")
            groups.append(sample.group)
    folds = _folds(labels, groups)
    if not folds:
        raise SelectionError(
            "the behaviour's text classifier needs completions of both sides in two groups or more"
        )
    best: BehaviorClassifier | None = None
    for tried, pipeline in _pipelines().items():
        if kind not in (None, tried):
            continue
        looked_at = _look(tried, model, texts)
        accuracy = _accuracy(pipeline, looked_at, np.array(labels), folds)
        if best is None or accuracy > best.accuracy:
            fitted = pipeline.fit(looked_at, labels)
            best = BehaviorClassifier(tried, fitted, model, accuracy, len(texts))
        if best.reliable:
            break
    assert best is not None
    return best


def _accuracy(
    pipeline: Pipeline,
    looked_at: Any,
    labels: NDArray[np.bool_],
    folds: list[tuple[NDArray[Any], NDArray[Any]]],
) -> float:
    """Return the balanced accuracy over all held-out texts: always saying one side scores 0.5."""
    texts = np.asarray(looked_at)
    truth, said = [], []
    for train, test in folds:
        fitted = clone(pipeline).fit(texts[train], labels[train])
        truth.append(labels[test])
        said.append(fitted.predict(texts[test]))
    truth_of_all = np.concatenate(truth)
    if len(set(truth_of_all)) < 2:
        return 0.5
    return float(balanced_accuracy_score(truth_of_all, np.concatenate(said)))


def _folds(labels: list[bool], groups: list[str]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return folds (train, test) that hold whole groups out and leave both sides to train on."""
    count = min(5, len(set(groups)))
    if count < 2:
        return []
    folds = GroupKFold(count).split(labels, groups=groups)
    return [(train, test) for train, test in folds if len({labels[i] for i in train}) == 2]


def _pipelines() -> dict[Kind, Pipeline]:
    return {
        "words": make_pipeline(
            make_union(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+"),
                TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
            ),
            LogisticRegression(C=30.0, max_iter=2000, class_weight="balanced"),
        ),
        "reading": make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
        ),
    }


def _look(kind: Kind, model: LanguageModel, texts: Sequence[str]) -> Any:
    return list(texts) if kind == "words" else _read(model, texts)


def _read(model: LanguageModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """Mean residual of each bare text, `(n, d_model)`; the first token, a sink, is left out.

    What is longer than the model's context is cut off.
    """
    point = HookPoint(3 * model.n_layers // 4, "hook_resid_post")
    rows = [render(model, (), text, chat=False).ids[: model.context] for text in texts]
    means: NDArray[np.float32] = mean_residuals(model, point, rows, [1] * len(rows)).numpy()
    return means
