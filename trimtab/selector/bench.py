"""The bench: scales that also let the model write, and judge what it wrote, each thing once."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render_prompt
from trimtab.pairs import Message, Sample
from trimtab.selector.prompting import with_examples
from trimtab.selector.scales import Scales, digest
from trimtab.steering.damage import Damage, Divergence
from trimtab.steering.fluency import Fluency, repetition, reply_nats
from trimtab.steering.generation import (
    Prompts,
    generate,
    generate_each,
    leaves_room,
    read_prompts,
)
from trimtab.steering.judges.classifier import BehaviorClassifier, TextJudge
from trimtab.steering.judges.judge import Judge
from trimtab.steering.margin import Margin
from trimtab.steering.vector import SteeringVector

Conversations = Sequence[tuple[Message, ...]]

VECTORS_AT_ONCE = 8  # whose replies are written, and noted in the journal, together


@dataclass(frozen=True, eq=False)
class Bench(Scales):
    """Scales of a model, and what it writes under the vectors.

    Attributes:
        model: the language model.
        classifier: trained on the pairs' completions; sorts the model's own replies, and judges
            where no other judge was asked for.
        chat: render through the chat template.
        system: system prompt, None for the template's own.
        max_new_tokens: length of generated replies.
        asked: the judge that was asked for.
        longest: tokens of prompt and completion that the store of the pairs kept.
    """

    model: LanguageModel
    classifier: BehaviorClassifier
    chat: bool = True
    system: str | None = None
    max_new_tokens: int = 32
    asked: Judge | None = None
    longest: int | None = None
    _read: dict[str, Prompts] = field(default_factory=dict, repr=False)

    @property
    def judge(self) -> Judge:
        """Says whether a reply shows the behaviour; every behaviour rate is by it."""
        return self.asked or TextJudge(self.classifier)

    def effects(
        self, direction: Tensor, margin: Margin, name: str, multiplier: float
    ) -> NDArray[np.float64]:
        """Return every sample's effect on a margin, `(n,)`, at a multiplier of the unit vector."""
        return self.weigh(margin, name)(multiplier * self.vector(direction).direction)

    def divergence(
        self, direction: Tensor, damage: Damage, multiplier: float, *, meter: str
    ) -> Divergence:
        """Return the damage at a multiplier of the unit vector, by a meter of that name."""
        vector = self.vector(direction)

        def measure() -> list[float]:
            found = damage(vector.edit(multiplier))
            return [found.mean, found.p95]

        key = ("divergence", digest(vector.direction), multiplier, meter)
        return Divergence(*self.journal.once(key, measure))

    def replies(
        self, direction: Tensor | None, conversations: Conversations, multiplier: float = 0.0
    ) -> list[str]:
        """Return greedy replies under the unit vector at `multiplier`, unsteered without one."""
        vector = None if direction is None else self.vector(direction)

        def measure() -> list[str]:
            prompts = self._prompts(conversations)
            return generate(prompts, vector, multiplier, max_new_tokens=self.max_new_tokens)

        of = None if vector is None else digest(vector.direction)
        key = ("replies", of, multiplier, _key(conversations))
        replies: list[str] = self.journal.once(key, measure)
        return replies

    def replies_each(
        self,
        directions: Sequence[Tensor],
        conversations: Conversations,
        multipliers: Sequence[float],
    ) -> list[list[str]]:
        """Return the replies under each of several unit vectors, as `replies` does for one."""
        vectors = [self.vector(direction) for direction in directions]
        steerings = list(zip(vectors, multipliers, strict=True))
        replies: list[list[str]] = []
        for start in range(0, len(steerings), VECTORS_AT_ONCE):
            some = steerings[start : start + VECTORS_AT_ONCE]
            key = (
                "replies each",
                [(digest(v.direction), m) for v, m in some],
                _key(conversations),
            )
            measure = partial(self._generate_each, conversations, some)
            replies += self.journal.once(key, measure)
        return replies

    def _generate_each(
        self, conversations: Conversations, steerings: list[tuple[SteeringVector, float]]
    ) -> list[list[str]]:
        prompts = self._prompts(conversations)
        return generate_each(prompts, steerings, max_new_tokens=self.max_new_tokens)

    def _prompts(self, conversations: Conversations) -> Prompts:
        """Return prompts with their cache; the same ones are asked again and again."""
        key = _key(conversations)
        if key not in self._read:
            self._read[key] = read_prompts(
                self.model,
                conversations,
                chat=self.chat,
                system=self.system,
                room=self.max_new_tokens,
            )
        return self._read[key]

    def margin(
        self,
        samples: Sequence[Sample],
        *,
        longest: int | None = None,
        max_tokens: int | Sequence[int] | None = None,
    ) -> Margin:
        """Return the margin on samples, rendered as prompts are; stored ones cut at `longest`."""
        return Margin(
            self.model,
            samples,
            self.hook_point,
            positions=self.positions,
            chat=self.chat,
            system=self.system,
            longest=longest,
            max_tokens=max_tokens,
        )

    def prompted(
        self, conversations: Conversations, examples: Sequence[Sample]
    ) -> list[tuple[Message, ...]]:
        """Return conversations with answered examples before them, where these leave room."""
        found = []
        for bare in conversations:
            longer = with_examples(bare, examples)
            ids = render_prompt(self.model, longer, chat=self.chat, system=self.system)
            found.append(longer if leaves_room(self.model, ids, self.max_new_tokens) else bare)
        return found

    def fluency(self, conversations: Conversations, replies: Sequence[str]) -> Fluency:
        """Return how fluent the unsteered model finds replies, and how much they repeat."""

        def measure() -> list[float | None]:
            nats = reply_nats(
                self.model, conversations, replies, chat=self.chat, system=self.system
            )
            return [None if np.isnan(n) else float(n) for n in nats]

        kept = self.journal.once(("nats", _key(conversations), list(replies)), measure)
        return Fluency(np.array(kept, dtype=np.float64), repetition(replies))


def _key(conversations: Conversations) -> str:
    return json.dumps([list(conversation) for conversation in conversations])
