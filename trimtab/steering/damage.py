"""Damage: how far a steered model's next-token predictions move on text that is not about anything.

KL(steered || base) in nats per token. The packaged neutral text is public-domain prose (novels and
an encyclopedic factbook), in contexts of a few dozen tokens whose first token is left unsteered.
The packaged neutral chats are everyday questions with plain replies, steered where the behaviour
is: from the end of the prompt on. Budgets are budgets of the text; chats are reported beside it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.unembed import logits
from trimtab.pairs import Message
from trimtab.steering.apply import Edit
from trimtab.steering.positions import Positions
from trimtab.steering.replay import Finals, Replay

CONTEXT_TOKENS = 33  # one unsteered token and 32 on which the divergence is measured
STATES_AT_ONCE = 128  # fewer make slow matrix products, and more only take memory


@dataclass(frozen=True)
class Divergence:
    """KL(steered || base) over tokens, in nats: the mean and the 95th percentile."""

    mean: float
    p95: float


class Damage:
    """Measures the divergence that an edit causes on fixed texts.

    The base model's log-probabilities are kept: `tokens x vocabulary` floats.
    """

    def __init__(
        self,
        model: LanguageModel,
        hook_point: HookPoint,
        texts: Sequence[str] | None = None,
        *,
        max_texts: int | None = None,
    ) -> None:
        chosen = (neutral_texts() if texts is None else list(texts))[:max_texts]
        rows = [render(model, (), text, chat=False).ids[:CONTEXT_TOKENS] for text in chosen]
        rows = [row for row in rows if len(row) > 1]
        ones = [1] * len(rows)
        self._keep(Replay(model, hook_point, rows, ones, ones))

    @classmethod
    def on_chats(
        cls,
        model: LanguageModel,
        hook_point: HookPoint,
        chats: Sequence[Sequence[Message]] | None = None,
        *,
        positions: Positions = "prompt_end",
        chat: bool = True,
        system: str | None = None,
    ) -> "Damage":
        """Return a meter over chats whose last message is the reply; None: the packaged ones.

        It measures the predictions of the reply's tokens, and of what follows it.

        Args:
            model: the language model.
            hook_point: where edits will act.
            chats: what is measured on.
            positions: which positions edits touch.
            chat: render through the chat template.
            system: system prompt, None for the template's own.
        """
        rows, starts, reads = [], [], []
        for messages in neutral_chats() if chats is None else chats:
            *prompt, reply = messages
            row = render(model, prompt, reply["content"], chat=chat, system=system)
            rows.append(row.ids)
            reads.append(row.n_prompt - (positions != "generated"))
            starts.append(0 if positions == "all" else reads[-1])
        damage = cls.__new__(cls)
        damage._keep(Replay(model, hook_point, rows, starts, reads))
        return damage

    @torch.no_grad()
    def _keep(self, replay: Replay) -> None:
        """Measure the base model on the rows of `replay`."""
        self.replay = replay
        weight = replay.model.module.get_output_embeddings().weight
        self._base = torch.empty(replay.n_reads, len(weight), device=weight.device)
        for finals in replay.run([None]):
            for ids, some in self._slabs(finals):
                self._base[ids] = logits(replay.model, some[0]).float().log_softmax(-1)

    @cached_property
    def residual_norm(self) -> float:
        """Median length of the residual where edits act, over the tokens measured on."""
        seen: list[Tensor] = []

        def look(x: Tensor) -> Tensor:
            seen.append(x)
            return x

        with torch.no_grad():
            norms = [
                seen[-1][finals.nodes.to(seen[-1].device)].float().norm(dim=-1)
                for finals in self.replay.run([look])
            ]
        return float(torch.cat(norms).median())

    def __call__(self, change: Edit | None) -> Divergence:
        """Return the divergence under `change`; exactly zero without one."""
        return Divergence(0.0, 0.0) if change is None else self.of_many([change])[0]

    @torch.no_grad()
    def of_many(self, changes: Sequence[Edit]) -> list[Divergence]:
        """Return the divergence under each of many changes, measured together."""
        nats = torch.empty(len(changes), len(self._base), dtype=torch.float64)
        for finals in self.replay.run(changes):
            for ids, some in self._slabs(finals):
                steered = logits(self.replay.model, some).float().log_softmax(-1)
                p = steered.exp()
                kl = torch.linalg.vecdot(p, steered.sub_(self._base[ids]))
                nats[finals.changes, ids] = kl.double().cpu()
        quantiles = np.quantile(nats, 0.95, axis=1)
        return [
            Divergence(float(mean), float(p95))
            for mean, p95 in zip(nats.mean(1), quantiles, strict=True)
        ]

    def _slabs(self, finals: Finals) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield numbers of states, and the states `(changes, n, d_model)`, a few at a time."""
        states = finals.states[:, finals.places]
        step = max(1, STATES_AT_ONCE // len(states))
        for first in range(0, len(finals.ids), step):
            yield finals.ids[first : first + step], states[:, first : first + step]


def neutral_texts() -> list[str]:
    """Return the packaged neutral texts."""
    return [row["text"] for row in _packaged("neutral.jsonl")]


def neutral_chats() -> list[list[Message]]:
    """Return the packaged neutral chats, a question and a reply each."""
    return [row["messages"] for row in _packaged("neutral_chats.jsonl")]


def _packaged(name: str) -> list[dict[str, Any]]:
    source = resources.files("trimtab.steering").joinpath("data", name)
    with source.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
