"""The margin: how much more likely a model finds one side's completions than the other's."""

import sys
from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import Rendered, render
from trimtab.model.unembed import logits, token_logits
from trimtab.pairs import Sample, balanced_groups
from trimtab.steering.apply import Edit
from trimtab.steering.positions import Positions
from trimtab.steering.replay import Finals, Replay

STATES_AT_ONCE = 128  # fewer make slow matrix products, and more only take memory


class _Sums(NamedTuple):
    """Weighted sums of log-probabilities: every token's weight, and the sum that it goes into."""

    weights: Tensor  # float64 `(tokens,)`
    into: Tensor  # int64 `(tokens,)`
    n: int


def _cut(row: Rendered, most: int | None, limit: int) -> Rendered:
    """Return at most `most` tokens of the completion, and `limit` with the prompt."""
    end = limit if most is None else min(limit, row.n_prompt + most)
    return Rendered(row.ids[: max(end, row.n_prompt)], row.n_prompt)


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
        max_tokens: score no more than the first tokens of a completion, so many of each or of every
            one; None scores all.
        longest: cut prompt and completion to so many tokens, as a store does. What the model cannot
            read at once is cut anyway, and a sample with a side that has no room left is dropped.

    Attributes:
        samples: those that are scored.
        lengths: how many tokens of every completion are scored, `(n_completions,)`.
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
        max_tokens: int | Sequence[int] | None = None,
        longest: int | None = None,
    ) -> None:
        limit = min(longest or sys.maxsize, model.context or sys.maxsize)
        most = iter(max_tokens) if isinstance(max_tokens, Sequence) else repeat(max_tokens)
        self.samples: list[Sample] = []
        rows: list[tuple[int, ...]] = []
        prompts: list[int] = []
        owners: list[int] = []
        letters: list[bool] = []
        signs: list[float] = []
        for sample in samples:
            sides = [
                _cut(render(model, sample.messages, text, chat=chat, system=system), cap, limit)
                for (_, text), cap in zip(sample.sides, most, strict=False)
            ]
            if any(len(row.ids) == row.n_prompt for row in sides):
                continue
            self.samples.append(sample)
            for (side, _), row in zip(sample.sides, sides, strict=True):
                rows.append(row.ids)
                prompts.append(row.n_prompt)
                owners.append(len(self.samples) - 1)
                letters.append(sample.single_letter)
                signs.append(1.0 if side == "positive" else -1.0)
        completions = [row[n:] for row, n in zip(rows, prompts, strict=True)]
        self.lengths = lengths = np.array([len(one) for one in completions], dtype=np.int64)
        positive = np.array(signs, dtype=np.float64) > 0
        counts = np.where(positive, positive.sum(), (~positive).sum())
        shares = 1 / np.where(letters, 1, lengths)
        signed = shares * signs * len(self.samples) / counts

        def sums(weights: NDArray[np.float64], into: Sequence[int], n: int) -> _Sums:
            spread = [
                np.repeat(values, lengths) for values in (weights, np.array(into, dtype=np.int64))
            ]
            return _Sums(torch.from_numpy(spread[0]), torch.from_numpy(spread[1]), n)

        self._tokens = torch.tensor(
            [token for tokens in completions for token in tokens], dtype=torch.int64
        )
        self._scores = sums(shares, range(len(rows)), len(rows))
        self._margins = sums(signed, owners, len(self.samples))
        self._skip_first = positions == "generated"
        self.replay = Replay(
            model,
            hook_point,
            [row[:-1] for row in rows],  # nothing is read after the last token
            [0 if positions == "all" else n - 1 for n in prompts],
            [n - 1 for n in prompts],
            owners,
        )

    @property
    def groups(self) -> list[str]:
        """What every sample is resampled with: its group, of unpaired texts with other side's."""
        return balanced_groups(self.samples)

    def scores(self, change: Edit | None = None) -> NDArray[np.float64]:
        """Return the score of every completion, `(n_completions,)`, in nats per token."""
        scores: NDArray[np.float64] = self._measure([change], self._scores)[0]
        return scores

    def per_sample(self, change: Edit | None = None) -> NDArray[np.float64]:
        """Return every sample's margin, `(n_samples,)`, in nats per token."""
        margins: NDArray[np.float64] = self._measure([change], self._margins)[0]
        return margins

    @cached_property
    def base(self) -> NDArray[np.float64]:
        """Margins of the unsteered model, `(n_samples,)`."""
        return self.per_sample()

    def effects(self, change: Edit) -> NDArray[np.float64]:
        """Return how far `change` moves every sample's margin, `(n_samples,)`."""
        effects: NDArray[np.float64] = self.effects_of_many([change])[0]
        return effects

    def effects_of_many(self, changes: Sequence[Edit]) -> NDArray[np.float64]:
        """Return the `effects` of many changes, `(n_changes, n_samples)`, measured together."""
        return self._measure(changes, self._margins) - self.base

    def mean_effect(self, change: Edit) -> float:
        """Return the mean of `effects`."""
        return float(self.effects(change).mean())

    def gradient(self, at: Tensor, over: NDArray[np.float64] | None = None) -> Tensor:
        """Return the gradient of `mean_effect` by the vector that is added, `(d_model,)` float32.

        Args:
            at: the vector `(d_model,)` at which it is taken, zero for the unsteered model.
            over: of the sum of `effects` with these weights `(n_samples,)`, instead of their mean.
        """
        n = len(self.samples)
        shares = torch.from_numpy(np.full(n, 1 / n) if over is None else over)
        vector = at.detach().to(self.replay.model.device, torch.float32).requires_grad_(True)
        total = torch.zeros_like(vector)
        with torch.enable_grad():
            for finals in self.replay.run([self._on_steered(lambda x: x + vector.to(x))]):
                effects = self._add_up(finals, self._margins) @ shares.double()
                total += torch.autograd.grad(effects.sum(), vector)[0]
        return total.cpu()

    @torch.no_grad()
    def _measure(self, changes: Sequence[Edit | None], sums: _Sums) -> NDArray[np.float64]:
        """Return the sums under each change, `(n_changes, n_sums)`."""
        found = np.zeros((len(changes), sums.n))
        for finals in self.replay.run([self._on_steered(change) for change in changes]):
            found[finals.changes] += self._add_up(finals, sums).numpy()
        return found

    def _on_steered(self, change: Edit | None) -> Edit | None:
        if change is None or not self._skip_first:
            return change
        return lambda x: torch.cat([x[:, :1], change(x[:, 1:])], dim=1)

    def _add_up(self, finals: Finals, sums: _Sums) -> Tensor:
        """What some states add to the sums, `(changes, n_sums)` float64 on the CPU.

        A token's log-probability is its logit less the normaliser of its state. Where weights of
        one sum cancel at a state, as those of a choice between two letters do, its normaliser is
        not computed.
        """
        model, states = self.replay.model, finals.states
        weights, into = sums.weights[finals.ids], sums.into[finals.ids]
        own = token_logits(model, states[:, finals.places], self._tokens[finals.ids])
        total = torch.zeros(len(states), sums.n, dtype=torch.float64)
        total = total.index_add(1, into, own.cpu().double() * weights)

        pairs, index = torch.unique(finals.places * sums.n + into, return_inverse=True)
        net = torch.zeros(len(pairs), dtype=torch.float64).index_add(0, index, weights)
        pairs, net = pairs[net.abs() > 1e-9], net[net.abs() > 1e-9]
        needed, index = torch.unique(pairs // sums.n, return_inverse=True)
        flat = states[:, needed.to(states.device)].flatten(0, 1)
        slabs = flat.chunk(max(1, -(-len(flat) // STATES_AT_ONCE)))  # of one size: no small last
        normalisers = torch.cat([logits(model, slab).float().logsumexp(-1) for slab in slabs])
        normalisers = normalisers.view(len(states), -1).cpu().double()[:, index]
        return total.index_add(1, pairs % sums.n, -normalisers * net)
