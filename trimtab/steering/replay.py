"""Run what a vector cannot change once, and per candidate only the rest.

1. A row is a token sequence and a `start`: positions before it are never steered.
2. Everything before `start` runs once; the keys and values of the layers above the hook point are
   kept and never copied or grown.
3. The positions from `start` on (the tail) run once up to the hook point, and the residual there
   is kept.
4. Per candidate, layers below the hook point are passed over: the last of them hands out the kept
   residual, and only the tail runs through the layers above.

The numbers are those of plain forward passes up to rounding (about 1e-5 in float32); the tests
compare the two on every architecture.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from trimtab.model.batch import pad
from trimtab.model.families import find_layers
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit as edit_at
from trimtab.model.hooks import record
from trimtab.model.language_model import LanguageModel
from trimtab.steering.apply import Edit

TAIL_TOKENS_PER_BATCH = 512  # bounds the logits: 512 tokens of a 49,152-word vocabulary are 100 MB


class _FrozenLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's prefix: hands out prefix and new keys together, and forgets the new ones."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return (
            torch.cat([self.keys, key_states], dim=-2),
            torch.cat([self.values, value_states], dim=-2),
        )


@dataclass(frozen=True)
class Tails:
    """One batch of tails. All are `(rows, width)`; `rows` holds the indices of the rows in it."""

    rows: tuple[int, ...]
    input_ids: Tensor
    mask: Tensor  # bool, True at real tokens
    attention_mask: Tensor  # `(rows, prefix width + width)`
    position_ids: Tensor
    prefix: Cache | None
    residual: Tensor | None  # `(rows, width, d_model)` entering `Replay.first_layer`


class Replay:
    """Forward passes over fixed rows, prepared for many edits at one hook point.

    Args:
        model: the language model.
        hook_point: where edits will act.
        rows: token ids of each row.
        starts: first steered position of each row, `0 <= start < len(row)`.
    """

    def __init__(
        self,
        model: LanguageModel,
        hook_point: HookPoint,
        rows: Sequence[Sequence[int]],
        starts: Sequence[int],
    ) -> None:
        self.model = model
        self.hook_point = hook_point
        after = hook_point.site == "hook_resid_post"
        self.first_layer = hook_point.layer + 1 if after else hook_point.layer
        self.batches = [
            self._prepare(batch, [rows[i] for i in batch], [starts[i] for i in batch])
            for batch in _batches(rows, starts)
        ]

    def run(self, change: Edit | None) -> Iterator[tuple[Tails, Tensor]]:
        """Yield each batch with its logits `(rows, width, vocabulary)` under `change`."""
        for batch in self.batches:
            with ExitStack() as stack:
                stack.enter_context(self._passed_over(batch))
                if change is not None:
                    stack.enter_context(edit_at(self.model, self.hook_point, change))
                logits = self._forward(batch)
            yield batch, logits  # the model is whole again, whatever the caller does meanwhile

    def _forward(self, batch: Tails) -> Tensor:
        logits: Tensor = self.model.module(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            past_key_values=batch.prefix,
            use_cache=batch.prefix is not None,
        ).logits
        return logits

    @torch.no_grad()
    def _prepare(
        self, indices: tuple[int, ...], rows: list[Sequence[int]], starts: list[int]
    ) -> Tails:
        pad_id = self.model.pad_id
        device = self.model.device
        tail = pad([row[s:] for row, s in zip(rows, starts, strict=True)], "right", pad_id, device)
        offsets = torch.tensor(starts, device=device)[:, None]
        cache, before = None, None
        if max(starts) > 0:
            head = pad(
                [row[:s] for row, s in zip(rows, starts, strict=True)], "left", pad_id, device
            )
            cache = DynamicCache()
            self.model.module(
                input_ids=head.input_ids,
                attention_mask=head.attention_mask,
                position_ids=head.position_ids,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            before = head.attention_mask
            cache = Cache(layers=[_FrozenLayer(layer.keys, layer.values) for layer in cache.layers])
        batch = Tails(
            rows=indices,
            input_ids=tail.input_ids,
            mask=tail.attention_mask.bool(),
            attention_mask=(
                tail.attention_mask
                if before is None
                else torch.cat([before, tail.attention_mask], dim=1)
            ),
            position_ids=tail.position_ids + offsets,
            prefix=cache,
            residual=None,
        )
        if self.first_layer == 0:
            return batch
        last_below = HookPoint(self.first_layer - 1, "hook_resid_post")
        with record(self.model, [last_below], stop=True) as seen:
            self._forward(batch)
        if cache is not None:  # the passed-over layers' keys are not read again; 0 sizes the mask
            cache.layers[1 : self.first_layer] = [cache.layers[0]] * (self.first_layer - 1)
        return replace(batch, residual=seen[last_below])

    @contextmanager
    def _passed_over(self, batch: Tails) -> Iterator[None]:
        """Let the layers below the hook point pass their input on, the last one the residual."""
        below = find_layers(self.model.module)[: self.first_layer]
        kept = [layer.__dict__.get("forward") for layer in below]
        try:
            for layer in below:
                layer.forward = _identity
            if below:
                below[-1].forward = _constant(batch.residual)
            yield
        finally:
            for layer, forward in zip(below, kept, strict=True):
                if forward is None:
                    del layer.forward
                else:
                    layer.forward = forward


def _identity(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return hidden_states


def _constant(residual: Tensor | None) -> Callable[..., Tensor]:
    def forward(*_args: Any, **_kwargs: Any) -> Tensor:
        assert residual is not None
        return residual

    return forward


def _batches(rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[tuple[int, ...]]:
    """Group rows of like tail and prefix length, so that little is padding."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]) - starts[i], starts[i]))
    batches: list[list[int]] = []
    for i in order:
        width = len(rows[i]) - starts[i]
        if not batches or (len(batches[-1]) + 1) * width > TAIL_TOKENS_PER_BATCH:
            batches.append([])
        batches[-1].append(i)
    return [tuple(batch) for batch in batches]
