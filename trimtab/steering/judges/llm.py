"""A language model as a judge: it is shown the prompt, the reply and examples, and says yes or no.

Its own accuracy is measured first, on completions of pairs whose side is known (Zheng et al. 2023,
"Judging LLM-as-a-judge", is why nobody should take it for granted).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import SelectionError
from trimtab.model.endpoint import Connection, Endpoint, Remember
from trimtab.pairs import Message, Sample, Side
from trimtab.steering.judges.judge import RELIABLE_ACCURACY, Conversations
from trimtab.steering.judges.question import (
    Question,
    ask_about,
    draw_examples,
    in_random_order,
    read_answer,
)

SIDES: tuple[Side, ...] = ("positive", "negative")
MEASURED_ON = 40  # completions that the accuracy is measured on, half of each side


@dataclass(frozen=True)
class JudgeEndpoint(Endpoint):
    """Where a judge is found, and what it judges.

    Attributes:
        criterion: what shows the behaviour, in words; None leaves it to the behaviour's name and
            examples.
    """

    criterion: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What was asked about a reply, what was answered, and how that is read.

    Attributes:
        prompt: None where the reply was empty and nothing was asked.
        answer: in the judge's words.
        shows: None where the answer is neither yes nor no: the reply is unjudged.
    """

    prompt: str | None
    answer: str | None
    shows: bool | None


@dataclass(frozen=True, eq=False)
class LLMJudge:
    """Judges replies by asking a language model.

    Attributes:
        question: what it is asked.
        connection: where.
        accuracy: balanced over the sides; an unjudged completion counts as wrong.
        n_texts: completions that the accuracy was measured on; none was an example.
    """

    question: Question
    connection: Connection
    accuracy: float
    n_texts: int
    way_out: str = (
        "say in words what shows the behaviour (--judge-criterion), or name another --judge-model"
    )

    @property
    def endpoint(self) -> Endpoint:
        """Where it is asked."""
        return self.connection.endpoint

    @property
    def name(self) -> str:
        """The model and its host."""
        return f"language model {self.endpoint.model} at {self.endpoint.host}"

    @property
    def reliable(self) -> bool:
        """Whether the accuracy suffices to judge replies."""
        return self.accuracy >= RELIABLE_ACCURACY

    def verdicts(self, conversations: Conversations, replies: Sequence[str]) -> list[Verdict]:
        """Return the verdict on every reply to its conversation.

        Raises:
            EndpointError: the endpoint cannot be reached or refuses.
        """
        prompts = [
            self.question.about(conversation, reply) if reply.strip() else None
            for conversation, reply in zip(conversations, replies, strict=True)
        ]
        answers = iter(self.connection.ask([p for p in prompts if p is not None]))
        found = []
        for prompt in prompts:
            if prompt is None:
                found.append(Verdict(None, None, False))
            else:
                answer = next(answers)
                found.append(Verdict(prompt, answer, read_answer(answer)))
        return found

    def shows(self, conversations: Conversations, replies: Sequence[str]) -> NDArray[np.bool_]:
        """Return whether each reply shows the behaviour, `(n,)`; an unjudged one does not."""
        found = [verdict.shows is True for verdict in self.verdicts(conversations, replies)]
        return np.array(found, dtype=bool)


def llm_judge(
    endpoint: JudgeEndpoint,
    behavior: str,
    select: Sequence[Sample],
    known: Sequence[Sample],
    remember: Remember,
) -> LLMJudge:
    """Return a judge behind an endpoint, its accuracy measured.

    Args:
        endpoint: where the model is, and what shows the behaviour.
        behavior: its name.
        select: samples that give the examples.
        known: samples whose completions it is measured on, those of the examples' groups left out.
        remember: keeps what was answered.

    Raises:
        EndpointError: the library is not installed, or the endpoint cannot be reached or refuses.
        SelectionError: beside the examples' groups there are no completions of both sides.
    """
    examples = draw_examples(select)
    question = ask_about(behavior, endpoint.criterion, examples)
    taught = {sample.group for sample in examples}
    others = [s for s in in_random_order(known) if s.group not in taught]
    texts = [
        (messages, text, side)
        for side in SIDES
        for messages, text in _completions(others, side)[: MEASURED_ON // 2]
    ]
    if len({side for _, _, side in texts}) < 2:
        raise SelectionError(
            "measuring the judge's accuracy needs completions of both sides outside the groups of "
            "its examples; add samples"
        )
    unmeasured = LLMJudge(question, Connection(endpoint, remember), accuracy=0.0, n_texts=0)
    conversations, replies, sides = zip(*texts, strict=True)
    right: dict[Side, list[bool]] = {side: [] for side in SIDES}
    for verdict, side in zip(unmeasured.verdicts(conversations, replies), sides, strict=True):
        right[side].append(verdict.shows is (side == "positive"))
    accuracy = float(np.mean([np.mean(of_side) for of_side in right.values()]))
    return replace(unmeasured, accuracy=accuracy, n_texts=len(texts))


def _completions(samples: Sequence[Sample], side: Side) -> list[tuple[tuple[Message, ...], str]]:
    return [(s.messages, text) for s in samples for of, text in s.sides if of == side]
