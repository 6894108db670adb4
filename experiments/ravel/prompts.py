"""Examples of one template, run from where they part, and from the hook point on.

What all of them begin with is run once, and its keys and values are kept. So is the residual that
enters the layers above the hook point: an intervention runs those layers alone, on the few tokens
from the entity on.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from transformers import DynamicCache

from experiments.ravel.examples import Example, in_common
from trimtab.model.batch import pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit, record
from trimtab.model.language_model import LanguageModel
from trimtab.model.unembed import logits
from trimtab.steering.replay import passed_over

TOKENS_PER_PASS = 1024


class Prompts:
    """Examples, each followed by its value's first tokens, and what they are run from.

    Args:
        model: the language model; use float32.
        hook_point: where residuals are read and changed.
        examples: that begin alike; the more they share, the less is run.
    """

    def __init__(
        self, model: LanguageModel, hook_point: HookPoint, examples: Sequence[Example]
    ) -> None:
        self.model, self.hook_point, self.examples = model, hook_point, examples
        after = hook_point.site == "hook_resid_post"
        self._first_layer = hook_point.layer + 1 if after else hook_point.layer
        rows = [example.ids[:-1] for example in examples]  # nothing is read after the last token
        shared = min(in_common(rows), *(example.place for example in examples))
        self._shared = rows[0][:shared]
        self._tails = pad([row[shared:] for row in rows], "right", model.pad_id, model.device)[0]
        self._places = torch.tensor([example.place - shared for example in examples])
        self._ends = torch.tensor([example.n_prompt - 1 - shared for example in examples])

    @torch.no_grad()
    def answered(self) -> list[bool]:
        """Return whether the model, decoding greedily, begins each value as it should."""
        found: list[bool] = []
        for some in self._passes(torch.arange(len(self.examples))):
            answers = [self.examples[i].answer for i in some.tolist()]
            lengths = torch.tensor([len(answer) for answer in answers])
            row = torch.arange(len(some)).repeat_interleave(lengths)
            read = torch.cat([torch.arange(length) for length in lengths])
            states = self._forward(some, self._before)[row, self._ends[some][row] + read]
            said = torch.split(logits(self.model, states).argmax(-1), lengths.tolist())
            found += [tuple(s.tolist()) == a for s, a in zip(said, answers, strict=True)]
        return found

    @property
    def residual(self) -> Tensor:
        """At the hook point, at each entity's last token, `(n, d_model)`."""
        return self._captured[1]

    def forward(self, rows: Tensor, read: Tensor, added: Tensor) -> Tensor:
        """Return log-probabilities `(m, vocabulary)` of the next token, where gradients flow.

        Args:
            rows: int64 `(m,)`, which of the examples.
            read: int64 `(m,)`, after how many tokens of the value.
            added: `(m, d_model)` to the residual at the entity's last token.
        """
        found = []
        for some in self._passes(torch.arange(len(rows))):
            states = self._forward_above(rows[some], added[some])
            final = states[torch.arange(len(some)), self._ends[rows[some]] + read[some]]
            found.append(logits(self.model, final).float().log_softmax(-1))
        return torch.cat(found)

    def _passes(self, rows: Tensor) -> tuple[Tensor, ...]:
        return torch.split(rows, max(1, TOKENS_PER_PASS // self._tails.shape[1]))

    @cached_property
    def _before(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values, by layer, of what the examples begin with."""
        if not self._shared:
            return []
        cache = DynamicCache()
        ids = torch.tensor([self._shared], device=self.model.device)
        with torch.no_grad():
            self.model.module.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]

    @cached_property
    def _captured(self) -> tuple[Tensor, Tensor]:
        """What enters the first layer above, `(n, width, d_model)`, and `residual`."""
        below = HookPoint(self._first_layer - 1, "hook_resid_post") if self._first_layer else None
        points = {self.hook_point, below or self.hook_point}
        before = self._before  # made outside of every hook
        entering, residual = [], []
        for some in self._passes(torch.arange(len(self.examples))):
            with torch.no_grad(), record(self.model, points, stop=True) as seen:
                self._forward(some, before)
            x = seen[self.hook_point]
            residual.append(x[torch.arange(len(some)), self._places[some]])
            entering.append(seen[below] if below else x)
        return torch.cat(entering), torch.cat(residual)

    def _forward_above(self, rows: Tensor, added: Tensor) -> Tensor:
        before, places = self._before, (torch.arange(len(rows)), self._places[rows])

        def change(x: Tensor) -> Tensor:
            return x.index_put(places, added.to(x), accumulate=True)

        residual = self._captured[0][rows] if self._first_layer else None
        with (
            passed_over(self.model, self._first_layer, residual),
            edit(self.model, self.hook_point, change),
        ):
            return self._forward(rows, before)

    def _forward(self, rows: Tensor, before: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Final states `(m, width, d_model)` of some rows; pads are at their ends, seen by none."""
        cache = DynamicCache() if before else None
        for layer, kept in enumerate(before):
            assert cache is not None
            cache.update(*(x.expand(len(rows), -1, -1, -1) for x in kept), layer)
        states: Tensor = self.model.module.base_model(
            input_ids=self._tails[rows], past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state
        return states
