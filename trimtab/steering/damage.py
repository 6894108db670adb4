"""Damage: how far a steered model's next-token predictions move on text that is not about anything.

KL(steered || base) in nats per token. The packaged neutral text is public-domain prose (novels and
an encyclopedic factbook), in contexts of a few dozen tokens whose first token is left unsteered.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

import numpy as np
import torch

from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.steering.apply import Edit
from trimtab.steering.replay import Replay

CONTEXT_TOKENS = 33  # one unsteered token and 32 on which the divergence is measured


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
        self.replay = Replay(model, hook_point, rows, [1] * len(rows))
        with torch.no_grad():
            self._base = [
                logits[batch.mask].float().log_softmax(-1)
                for batch, logits in self.replay.run(None)
            ]

    @cached_property
    def residual_norm(self) -> float:
        """Median length of the residual where edits act, over the tokens measured on."""
        seen: list[torch.Tensor] = []

        def look(x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x

        with torch.no_grad():
            norms = [
                seen[-1][batch.mask.to(seen[-1].device)].float().norm(dim=-1)
                for batch, _ in self.replay.run(look)
            ]
        return float(torch.cat(norms).median())

    @torch.no_grad()
    def __call__(self, change: Edit | None) -> Divergence:
        """Return the divergence under `change`; exactly zero without one."""
        if change is None:
            return Divergence(0.0, 0.0)
        tokens = []
        for (batch, logits), base in zip(self.replay.run(change), self._base, strict=True):
            steered = logits[batch.mask].float().log_softmax(-1)
            tokens.append((steered.exp() * (steered - base)).sum(-1))
        nats = torch.cat(tokens).double().cpu().numpy()
        return Divergence(float(nats.mean()), float(np.quantile(nats, 0.95)))


def neutral_texts() -> list[str]:
    """Return the packaged neutral texts."""
    source = resources.files("trimtab.steering").joinpath("data/neutral.jsonl")
    with source.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]
