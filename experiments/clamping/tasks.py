"""The two tasks: what a clamped model does on each question, by every measure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, NamedTuple, Protocol

import numpy as np

from experiments.benchmark_questions import (
    Problem,
    Q,
    TruthfulQuestion,
    content_hash,
    last_number,
    user,
)
from experiments.completions import Completions
from trimtab.model.features.search import by_words
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.steering.clamp import FeatureClamp
from trimtab.steering.generation import Prompts, generate, read_prompts

AS_ASKED = re.compile(r"####\s*-?\$?\d")
BEYOND_CHANCE = 3.0  # standard errors by which an accuracy must beat chance to be one
SLACK = 4  # tokens that a reply may lose when it is decoded: white space at its ends, and spelling


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


class Part(Protocol):
    """Questions, and how a model does on them."""

    @property
    def items(self) -> str:
        """A short name of the questions and of how they are asked."""

    def __call__(self, clamp: FeatureClamp | None) -> Outcomes:
        """Return the outcomes by measure under a clamp; None: of the unsteered model."""


@dataclass(frozen=True, eq=False)
class Task:
    """A benchmark, in a part that any clamp can be scored on and one that takes long.

    Attributes:
        name: of the benchmark.
        phrases: that labels of its features are searched for.
        scored: answers that are given.
        written: replies.
        floors: which measures say nothing on a model, and why, of the unsteered outcomes.
    """

    name: str
    phrases: Sequence[str]
    scored: Part
    written: Part
    floors: Callable[[Outcomes], dict[str, str]]


def truthfulness(
    model: LanguageModel,
    point: HookPoint,
    questions: Sequence[TruthfulQuestion],
    system: str | None,
    *,
    phrases: Sequence[str],
    replies: int,
    tokens: int,
) -> Task:
    """Return TruthfulQA; replies to the first `replies` questions, of at most `tokens` tokens."""
    return Task(
        "TruthfulQA",
        phrases,
        Choices(model, point, questions, system),
        Replies(model, questions[:replies], system, tokens, told_true),
        lambda _: {},
    )


def reasoning(
    model: LanguageModel,
    point: HookPoint,
    problems: Sequence[Problem],
    system: str | None,
    *,
    phrases: Sequence[str],
    replies: int,
    tokens: int,
) -> Task:
    """Return GSM8K; replies to the first `replies` problems, of at most `tokens` tokens."""
    asked = problems[:replies]
    return Task(
        "GSM8K",
        phrases,
        Solutions(model, point, problems, system),
        Replies(model, asked, system, tokens, numbers_told),
        lambda unsteered: floors(unsteered, asked),
    )


@dataclass(frozen=True, eq=False)
class Choices:
    """TruthfulQA, chosen among its answers.

    `mc1` is whether the most likely answer, by its summed log-probability, is the true one; `mc2`
    the share of true answers in the probability of all. Both favour short answers, the more so the
    less a model knows what it says: beside them stands how many tokens the chosen answer has.
    """

    model: LanguageModel
    point: HookPoint
    questions: Sequence[TruthfulQuestion]
    system: str | None

    @cached_property
    def items(self) -> str:
        """A short name of the questions and of how they are asked."""
        return content_hash([*self.questions, self.system, "choices"])

    @cached_property
    def _answers(self) -> list[list[str]]:
        return [list({**one.mc1, **one.mc2}) for one in self.questions]

    @cached_property
    def _completions(self) -> Completions:
        asked = [
            (user(one.question), answers)
            for one, answers in zip(self.questions, self._answers, strict=True)
        ]
        return Completions(self.model, asked, self.point, system=self.system)

    def __call__(self, clamp: FeatureClamp | None) -> Outcomes:
        """Return the outcomes by measure under a clamp."""
        (nats,) = self._completions([None if clamp is None else clamp.edit(1.0)])
        ends = np.cumsum([len(answers) for answers in self._answers])[:-1]
        right, picked, lengths, shares = [], [], [], []
        for one, answers, some, tokens in zip(
            self.questions,
            self._answers,
            np.split(nats, ends),
            np.split(self._completions.lengths, ends),
            strict=True,
        ):
            by_answer = dict(zip(answers, some, strict=True))
            best = max(one.mc1, key=by_answer.__getitem__)
            picked.append(best)
            lengths.append(float(tokens[answers.index(best)]))
            right.append(float(one.mc1[best]))
            weights = np.exp([by_answer[answer] - some.max() for answer in one.mc2])
            shares.append(float(weights[list(one.mc2.values())].sum() / weights.sum()))
        return {
            "mc1": Outcome(right, True, picked),
            "mc2": Outcome(shares, False),
            "length of the choice": Outcome(lengths, False),
        }


@dataclass(frozen=True, eq=False)
class Solutions:
    """GSM8K: how likely the worked solution is, a token."""

    model: LanguageModel
    point: HookPoint
    problems: Sequence[Problem]
    system: str | None

    @cached_property
    def items(self) -> str:
        """A short name of the problems and of how they are asked."""
        return content_hash([*self.problems, self.system, "solutions"])

    @cached_property
    def _completions(self) -> Completions:
        asked = [(user(one.question), [one.solution]) for one in self.problems]
        return Completions(self.model, asked, self.point, system=self.system)

    def __call__(self, clamp: FeatureClamp | None) -> Outcomes:
        """Return the outcomes by measure under a clamp."""
        (nats,) = self._completions([None if clamp is None else clamp.edit(1.0)])
        a_token = nats / self._completions.lengths
        return {"log-probability": Outcome([float(x) for x in a_token], False)}


@dataclass(frozen=True, eq=False)
class Replies(Generic[Q]):
    """What a model writes; by the judge, and whether it comes to an end before it is cut.

    Attributes:
        tokens: of a reply, at most.
        judge: what replies to the questions are worth.
    """

    model: LanguageModel
    questions: Sequence[Q]
    system: str | None
    tokens: int
    judge: Callable[[Sequence[Q], Sequence[str]], Outcomes]

    @cached_property
    def items(self) -> str:
        """A short name of the questions and of how they are asked."""
        return content_hash([*self.questions, self.system, "replies", self.tokens])

    @cached_property
    def _prompts(self) -> Prompts:
        asked = [user(one.question) for one in self.questions]
        return read_prompts(self.model, asked, system=self.system)

    def __call__(self, clamp: FeatureClamp | None) -> Outcomes:
        """Return the outcomes by measure under a clamp."""
        texts = generate(self._prompts, clamp, max_new_tokens=self.tokens)
        encoded = self.model.tokenizer(texts, add_special_tokens=False).input_ids
        lengths = [float(len(ids)) for ids in encoded]
        ended = [float(length <= self.tokens - SLACK) for length in lengths]
        return {
            **self.judge(self.questions, texts),
            "ends by itself": Outcome(ended, True),
            "length": Outcome(lengths, False),
        }


def told_true(questions: Sequence[TruthfulQuestion], replies: Sequence[str]) -> Outcomes:
    """Return whether each reply is nearer to what is true.

    It counts as true where it is more like a correct reference than like any incorrect one, as the
    benchmark's own BLEU and ROUGE scores do; likeness is the cosine of TF-IDF of words and runs of
    letters over the question's references.
    """
    told = []
    for one, reply in zip(questions, replies, strict=True):
        near = by_words(list(one.mc2), [reply])[:, 0]
        true = np.array(list(one.mc2.values()))
        told.append(float(near[true].max() > near[~true].max()))
    return {"generated true": Outcome(told, True, list(replies))}


def numbers_told(problems: Sequence[Problem], replies: Sequence[str]) -> Outcomes:
    """Return whether each reply's last number is the answer, and in which form it says one.

    It is the last number, so that a reply in another form is not one that is wrong.
    """
    numbers = [last_number(reply) for reply in replies]
    right = [float(n == one.number) for n, one in zip(numbers, problems, strict=True)]
    as_asked = [float(bool(AS_ASKED.search(reply))) for reply in replies]
    return {
        "accuracy": Outcome(right, True, [str(n) for n in numbers]),
        "form as asked": Outcome(as_asked, True),
        "any number": Outcome([float(n is not None) for n in numbers], True),
    }


def floors(unsteered: Outcomes, problems: Sequence[Problem]) -> dict[str, str]:
    """Return why there is no accuracy, or no form, where the unsteered model has none.

    An accuracy must beat chance, which is how often its answers are those of other problems.
    """
    found = {}
    if not any(unsteered["form as asked"].values):
        found["form as asked"] = "unsteered 0.00, which is the floor"
    answers = unsteered["accuracy"].answers or []
    known = [str(one.number) for one in problems]
    others = [
        float(answer == number)
        for i, answer in enumerate(answers)
        for j, number in enumerate(known)
        if i != j
    ]
    right = np.array(unsteered["accuracy"].values)
    chance = float(np.mean(others)) if others else 0.0
    error = float(right.std() / max(1, len(right)) ** 0.5)
    if not right.mean() > chance + BEYOND_CHANCE * error:
        found["accuracy"] = (
            f"unsteered {right.mean():.2f}, which does not beat chance ({chance:.2f}) clearly"
        )
    return found
