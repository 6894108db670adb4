"""The margin: how much more likely a model finds one side's completions than the other's."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.pairs import Sample
from trimtab.steering.apply import Edit
from trimtab.steering.positions import Positions
from trimtab.steering.replay import Replay, Tails


class Margin:
    """Margins of fixed samples under any edit at one hook point.

    A completion's score is the mean log-probability of its tokens in nats; of a single-letter
    answer such as "(A)" it is the sum, so that brackets do not dilute the letter's. A pair's margin
    is the positive's score less the negative's; an unpaired text's is its score with the sign of
    its side, times `n_samples / n_side`, so that the mean over samples is mean(positives) less
    mean(negatives) however many there are of each. Effects are differences to the unsteered model.

    Args:
        model: the language model; use float32, in bfloat16 margins move by up to 0.05.
        samples: what is scored.
        hook_point: where edits will act.
        positions: which positions they touch.
        chat: render prompts through the chat template.
        system: system prompt, None for the template's own.
        max_tokens: score no more than the first tokens of a completion; None scores all.
    """

    def __init__(
        self,
        model: LanguageModel,
        samples: Sequence[Sample],
        hook_point: HookPoint,
        *,
        positions: Positions = "prompt_end",
        chat: bool = True,
        system: str | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.samples = list(samples)
        rows: list[tuple[int, ...]] = []
        prompts: list[int] = []
        self._owner: list[int] = []
        letters: list[bool] = []
        signs: list[float] = []
        for index, sample in enumerate(self.samples):
            for side, text in sample.sides:
                row = render(model, sample.messages, text, chat=chat, system=system)
                end = None if max_tokens is None else row.n_prompt + max_tokens
                rows.append(row.ids[:end])
                prompts.append(row.n_prompt)
                self._owner.append(index)
                letters.append(sample.single_letter)
                signs.append(1.0 if side == "positive" else -1.0)
        positive = np.array(signs) > 0
        counts = np.where(positive, positive.sum(), (~positive).sum())
        self._weights = np.array(signs) * len(self.samples) / counts
        self._summed = letters
        self._skip_first = positions == "generated"
        starts = [0 if positions == "all" else n - 1 for n in prompts]
        self._lead = [n - 1 - s for n, s in zip(prompts, starts, strict=True)]
        self.replay = Replay(model, hook_point, rows, starts)

    def scores(self, change: Edit | None = None) -> NDArray[np.float64]:
        """Return the score of every completion, `(n_completions,)`, in nats per token."""
        scores = np.empty(len(self._owner))
        with torch.no_grad():
            for batch, logits in self.replay.run(self._on_steered(change)):
                scores[list(batch.rows)] = self._score(batch, logits).double().cpu().numpy()
        return scores

    def per_sample(self, change: Edit | None = None) -> NDArray[np.float64]:
        """Return every sample's margin, `(n_samples,)`, in nats per token."""
        margins = np.zeros(len(self.samples))
        np.add.at(margins, self._owner, self._weights * self.scores(change))
        return margins

    @cached_property
    def base(self) -> NDArray[np.float64]:
        """Margins of the unsteered model, `(n_samples,)`."""
        return self.per_sample()

    def effects(self, change: Edit) -> NDArray[np.float64]:
        """Return how far `change` moves every sample's margin, `(n_samples,)`."""
        return self.per_sample(change) - self.base

    def mean_effect(self, change: Edit) -> float:
        """Return the mean of `effects`."""
        return float(self.effects(change).mean())

    def gradient(self, at: Tensor, over: NDArray[np.float64] | None = None) -> Tensor:
        """Return the gradient of `mean_effect` by the vector that is added, `(d_model,)` float32.

        Args:
            at: the vector `(d_model,)` at which it is taken, zero for the unsteered model.
            over: of the sum of `effects` with these weights `(n_samples,)`, instead of their mean.
        """
        shares = np.full(len(self.samples), 1 / len(self.samples)) if over is None else over
        vector = at.detach().to(self.replay.model.device, torch.float32).requires_grad_(True)
        total = torch.zeros_like(vector)
        weights = torch.tensor(
            self._weights * shares[self._owner], dtype=torch.float32, device=vector.device
        )

        def add(x: Tensor) -> Tensor:
            return x + vector.to(x)

        with torch.enable_grad():
            for batch, logits in self.replay.run(self._on_steered(add)):
                scores = self._score(batch, logits)
                (gradient,) = torch.autograd.grad(weights[list(batch.rows)] @ scores, vector)
                total += gradient
        return total.cpu()

    def _on_steered(self, change: Edit | None) -> Edit | None:
        if change is None or not self._skip_first:
            return change
        return lambda x: torch.cat([x[:, :1], change(x[:, 1:])], dim=1)

    def _score(self, batch: Tails, logits: Tensor) -> Tensor:
        """Mean log-probability of each row's completion tokens, the sum for letters, `(rows,)`."""
        lead = torch.tensor([self._lead[i] for i in batch.rows], device=logits.device)
        predicted = batch.input_ids[:, 1:]
        counted = batch.mask[:, 1:] & (
            torch.arange(predicted.shape[1], device=logits.device)[None, :] >= lead[:, None]
        )
        kept = logits[:, :-1].float()
        chosen = kept.gather(-1, predicted[..., None]).squeeze(-1)
        logprobs = chosen - kept.logsumexp(-1)
        summed = torch.tensor([self._summed[i] for i in batch.rows], device=logits.device)
        return (logprobs * counted).sum(1) / counted.sum(1).masked_fill(summed, 1)
