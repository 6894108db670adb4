"""The two tasks: what a clamped model does on each question, by every measure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from experiments.benchmark_questions import (
    Problem,
    TruthfulQuestion,
    content_hash,
    last_number,
)
from experiments.completions import Completions, Floats
from trimtab.model.features.search import by_words
from trimtab.model.language_model import LanguageModel
from trimtab.pairs import Message
from trimtab.steering.clamp import FeatureClamp
from trimtab.steering.generation import Prompts, generate_each, read_prompts

AS_ASKED = re.compile(r"####\s*-?\$?\d")
BEYOND_CHANCE = 3.0  # standard errors by which an accuracy must beat chance to be one

Clamped = tuple[FeatureClamp, float]
"""A clamp and its multiplier; 0 is the unsteered model."""


class Outcome(NamedTuple):
    """One measure on every question; survives JSON.

    Attributes:
        values: a number a question.
        binary: whether they are zeros and ones.
        answers: of which the values say whether they are right; None where there are none.
    """

    values: list[float]
    binary: bool
    answers: list[str] | None = None


Outcomes = dict[str, Outcome]


class Task(Protocol):
    """Questions, and how a clamped model does on them."""

    @property
    def name(self) -> str:
        """Of the benchmark."""

    @property
    def items(self) -> str:
        """A short name of the questions and of how they are asked."""

    def __call__(self, clamps: Sequence[Clamped]) -> list[Outcomes]:
        """Return the outcomes by measure under each clamp."""

    def floors(self, unsteered: Outcomes) -> dict[str, str]:
        """Return the measures that say nothing on this model, and why."""


@dataclass(frozen=True, eq=False)
class Truthfulness:
    """TruthfulQA: chosen among its answers, and written.

    `mc1` is whether the most likely answer, by its summed log-probability, is the true one; `mc2`
    the share of true answers in the probability of all. A written reply counts as true where it is
    more like a correct reference than like any incorrect one, as the benchmark's own BLEU and ROUGE
    scores do; likeness is the cosine of TF-IDF of words and runs of letters over the question's
    references.
    """

    model: LanguageModel
    clamp: FeatureClamp
    questions: Sequence[TruthfulQuestion]
    system: str | None
    reply_tokens: int
    name: str = "TruthfulQA"

    @cached_property
    def items(self) -> str:
        """A short name of the questions and of how they are asked."""
        return content_hash([*self.questions, self.system, self.reply_tokens])

    @cached_property
    def _answers(self) -> list[list[str]]:
        return [list({**one.mc1, **one.mc2}) for one in self.questions]

    @cached_property
    def _completions(self) -> Completions:
        asked = [
            (_user(one.question), answers)
            for one, answers in zip(self.questions, self._answers, strict=True)
        ]
        return Completions(self.model, asked, self.clamp.hook_point, system=self.system)

    @cached_property
    def _prompts(self) -> Prompts:
        asked = [_user(one.question) for one in self.questions]
        return read_prompts(self.model, asked, system=self.system)

    def __call__(self, clamps: Sequence[Clamped]) -> list[Outcomes]:
        """Return the outcomes by measure under each clamp."""
        scores = self._completions([clamp.edit(strength) for clamp, strength in clamps])
        replies = generate_each(self._prompts, clamps, max_new_tokens=self.reply_tokens)
        true = self._told_true(replies)
        return [
            {
                **self._chosen(nats),
                "generated true": Outcome(true[i], True, texts),
                "length": _lengths(self.model, texts),
            }
            for i, (nats, texts) in enumerate(zip(scores, replies, strict=True))
        ]

    def _chosen(self, nats: Floats) -> Outcomes:
        """Return mc1 and mc2 of the answers' log-probabilities."""
        ends = np.cumsum([len(answers) for answers in self._answers])[:-1]
        right, picked, shares = [], [], []
        for one, answers, some in zip(
            self.questions, self._answers, np.split(nats, ends), strict=True
        ):
            by_answer = dict(zip(answers, some, strict=True))
            best = max(one.mc1, key=by_answer.__getitem__)
            picked.append(best)
            right.append(float(one.mc1[best]))
            weights = np.exp([by_answer[answer] - some.max() for answer in one.mc2])
            shares.append(float(weights[list(one.mc2.values())].sum() / weights.sum()))
        return {"mc1": Outcome(right, True, picked), "mc2": Outcome(shares, False)}

    def _told_true(self, replies: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return whether each reply `(clamps, questions)` is nearer to what is true."""
        told = []
        for i, one in enumerate(self.questions):
            near = by_words(list(one.mc2), [texts[i] for texts in replies])
            true = np.array(list(one.mc2.values()))
            told.append(near[true].max(0) > near[~true].max(0))
        return [[float(x) for x in row] for row in np.stack(told, axis=1)]

    def floors(self, unsteered: Outcomes) -> dict[str, str]:  # noqa: ARG002
        """Return none: every measure stands beside its control."""
        return {}


@dataclass(frozen=True, eq=False)
class Reasoning:
    """GSM8K: how likely the worked solution is, and what is written.

    A reply's answer is its last number, so that a reply in another form is not one that is wrong.
    """

    model: LanguageModel
    clamp: FeatureClamp
    problems: Sequence[Problem]
    system: str | None
    reply_tokens: int
    name: str = "GSM8K"

    @cached_property
    def items(self) -> str:
        """A short name of the questions and of how they are asked."""
        return content_hash([*self.problems, self.system, self.reply_tokens])

    @cached_property
    def _completions(self) -> Completions:
        asked = [(_user(one.question), [one.solution]) for one in self.problems]
        return Completions(self.model, asked, self.clamp.hook_point, system=self.system)

    @cached_property
    def _prompts(self) -> Prompts:
        asked = [_user(one.question) for one in self.problems]
        return read_prompts(self.model, asked, system=self.system)

    def __call__(self, clamps: Sequence[Clamped]) -> list[Outcomes]:
        """Return the outcomes by measure under each clamp."""
        scores = self._completions([clamp.edit(strength) for clamp, strength in clamps])
        replies = generate_each(self._prompts, clamps, max_new_tokens=self.reply_tokens)
        found = []
        for nats, texts in zip(scores / self._completions.lengths, replies, strict=True):
            numbers = [last_number(text) for text in texts]
            right = [float(n == one.number) for n, one in zip(numbers, self.problems, strict=True)]
            found.append(
                {
                    "log-probability": Outcome([float(x) for x in nats], False),
                    "accuracy": Outcome(right, True, [str(n) for n in numbers]),
                    "form as asked": Outcome(
                        [float(bool(AS_ASKED.search(text))) for text in texts], True
                    ),
                    "any number": Outcome([float(n is not None) for n in numbers], True),
                    "length": _lengths(self.model, texts),
                }
            )
        return found

    def floors(self, unsteered: Outcomes) -> dict[str, str]:
        """Return why there is no accuracy, where the unsteered model's does not beat chance.

        Chance is how often its answers are those of other problems.
        """
        answers = unsteered["accuracy"].answers or []
        known = [str(one.number) for one in self.problems]
        others = [
            float(answer == number)
            for i, answer in enumerate(answers)
            for j, number in enumerate(known)
            if i != j
        ]
        right = np.array(unsteered["accuracy"].values)
        chance = float(np.mean(others)) if others else 0.0
        error = float(right.std() / max(1, len(right)) ** 0.5)
        if right.mean() > chance + BEYOND_CHANCE * error:
            return {}
        why = f"unsteered {right.mean():.2f}, which does not beat chance ({chance:.2f}) clearly"
        return {"accuracy": why}


def _user(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


def _lengths(model: LanguageModel, texts: Sequence[str]) -> Outcome:
    """Return the replies' tokens."""
    encoded = model.tokenizer(list(texts), add_special_tokens=False).input_ids
    return Outcome([float(len(ids)) for ids in encoded], False)


def measured(kept: Sequence[Mapping[str, Sequence[object]]]) -> list[Outcomes]:
    """Return outcomes as a journal gives them back."""
    return [{name: Outcome(*one) for name, one in each.items()} for each in kept]  # type: ignore[arg-type]
