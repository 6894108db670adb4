"""Run what a vector cannot change once, and per candidate only the rest.

1. A row is a token sequence and a `start`: positions before it are never steered.
2. What precedes the tails runs once; the keys and values of the layers above the hook point are
   kept and never grown, whatever the number of candidates.
3. The tails run once up to the hook point, and the residual there is kept.
4. Candidates run together, their copies of the tails side by side. Layers below the hook point
   are passed over: the last of them hands out the kept residual.
5. What comes out is the final states where they are wanted; logits are the caller's to make, of
   as few states and tokens as it needs.

The numbers are those of plain forward passes up to rounding (about 1e-5 in float32); the tests
compare the two on every architecture, and every replay does once on rows of its own. Where they
differ, it warns and runs plain passes.
"""

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from trimtab.model.families import find_layers
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit as edit_at
from trimtab.model.hooks import record
from trimtab.model.language_model import LanguageModel
from trimtab.steering.apply import Edit
from trimtab.steering.plain import whole_passes
from trimtab.steering.tails import Tails, batches, lay_out, plant

NODES_PER_PASS = 512  # enough for a matrix product to be as fast as it gets on a CPU
COPIES_WIDTH = 128  # nodes of one tree's copies: each costs attention to the others, all masked
TOKENS_PER_PREPARATION = 8192  # bounds the memory of the pass over what precedes the tails
MASKED = ("eager", "sdpa")  # implementations of attention that take any mask


class PlainPathWarning(UserWarning):
    """Scoring runs whole forward passes: right, and slow."""


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


class _Prepared(NamedTuple):
    """A batch of tails, and what was kept of the passes over it."""

    tails: Tails
    prefix: tuple[tuple[Tensor, Tensor], ...]  # keys and values by layer; none without a prefix
    residual: Tensor | None  # `(trees, width, d_model)` entering `Replay.first_layer`

    def part(self, some: slice) -> "_Prepared":
        return _Prepared(
            self.tails.part(some),
            tuple((keys[some], values[some]) for keys, values in self.prefix),
            None if self.residual is None else self.residual[some],
        )


class Finals(NamedTuple):
    """Final states of some rows under some changes.

    Attributes:
        changes: which of the changes.
        states: `(changes, n, d_model)`, after the final norm; tokens that rows share have one.
        ids: int64 `(m,)`, numbers of the wanted states, counted row by row.
        places: int64 `(m,)`, which of the `n` each of them is.
        nodes: bool `(trees, width)`, where in what an edit is given the `n` stand.
    """

    changes: slice
    states: Tensor
    ids: Tensor
    places: Tensor
    nodes: Tensor


class Replay:
    """Forward passes over fixed rows, prepared for many edits at one hook point.

    An edit is given `(trees, width, d_model)`, a tree for every group of rows; its first column is
    the first steered position, and it must treat every position by itself.

    Args:
        model: the language model.
        hook_point: where edits will act.
        rows: token ids of each row.
        starts: first steered position of each row, `0 <= start < len(row)`.
        reads: first position of each row whose final state is wanted, from its start on.
        groups: rows of one group whose tokens before the start are the same share what their
            tails have in common; None: no row shares anything.

    Attributes:
        n_reads: number of wanted states.
        fast: whether the fast path is taken.
    """

    def __init__(
        self,
        model: LanguageModel,
        hook_point: HookPoint,
        rows: Sequence[Sequence[int]],
        starts: Sequence[int],
        reads: Sequence[int],
        groups: Sequence[Hashable] | None = None,
    ) -> None:
        self.model = model
        self.hook_point = hook_point
        after = hook_point.site == "hook_resid_post"
        self.first_layer = hook_point.layer + 1 if after else hook_point.layer
        self.n_reads = sum(len(row) - read for row, read in zip(rows, reads, strict=True))
        trees = plant(rows, starts, reads, range(len(rows)) if groups is None else groups)
        tails = [
            lay_out(batch, model.pad_id, model.device)
            for batch in batches(trees, NODES_PER_PASS, TOKENS_PER_PREPARATION)
        ]
        attention = model.module.config.get_text_config()._attn_implementation
        self.fast = attention in MASKED
        self._batches = [self._prepare(t) if self.fast else _Prepared(t, (), None) for t in tails]
        self.fast = self.fast and self._agrees()
        if not self.fast:
            warnings.warn(
                f"{type(model.module).__name__} with {attention} attention cannot be scored the "
                "fast way; whole forward passes are run instead, which is much slower",
                PlainPathWarning,
                stacklevel=3,
            )

    def run(self, changes: Sequence[Edit | None]) -> Iterator[Finals]:
        """Yield the final states of all rows under all changes, some at a time.

        None stands for the unsteered model. Between two of them the model is whole, whatever the
        caller does meanwhile.
        """
        for batch in self._batches:
            trees, width = batch.tails.input_ids.shape
            copies = self._copies(batch.tails, len(changes))
            height = max(1, NODES_PER_PASS // (copies * width))
            for top in range(0, trees, height):
                part = batch.part(slice(top, top + height))
                ids, places = part.tails.wanted()
                for first in range(0, len(changes), copies):
                    some = slice(first, min(first + copies, len(changes)))
                    states = self._states(part, changes[some])
                    yield Finals(some, states, ids, places, part.tails.reads)

    def _copies(self, tails: Tails, n_changes: int) -> int:
        """How many copies of the tails it is best to run together, the changes in even shares."""
        trees, width = tails.input_ids.shape
        to_fill_a_pass = NODES_PER_PASS // (trees * width)
        to_spread_the_prefix = tails.before.input_ids.shape[1] // width  # its keys are copied
        most = max(1, min(max(to_fill_a_pass, to_spread_the_prefix), COPIES_WIDTH // width))
        turns = max(1, -(-n_changes // most))
        return max(1, -(-n_changes // turns))

    def _states(self, part: _Prepared, changes: Sequence[Edit | None]) -> Tensor:
        """Final states `(changes, n, d_model)`, of the `n` wanted nodes."""
        if not self.fast:
            return whole_passes(self.model, self.hook_point, part.tails, changes)
        with ExitStack() as stack:
            residual = None if part.residual is None else part.residual.repeat(1, len(changes), 1)
            stack.enter_context(passed_over(self.model, self.first_layer, residual))
            stack.enter_context(edit_at(self.model, self.hook_point, _side_by_side(changes)))
            final = self._forward(part, len(changes))
        copies = final.view(len(final), len(changes), -1, final.shape[-1])
        return copies.movedim(1, 0)[:, part.tails.reads.to(final.device)]

    def _forward(self, part: _Prepared, copies: int) -> Tensor:
        cache = Cache(layers=[_FrozenLayer(*kept) for kept in part.prefix]) if part.prefix else None
        final: Tensor = self.model.module.base_model(
            input_ids=part.tails.input_ids.repeat(1, copies),
            attention_mask=self._mask(part.tails, copies),
            position_ids=part.tails.positions.repeat(1, copies),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return final

    def _mask(self, tails: Tails, copies: int) -> Tensor | dict[str, Tensor]:
        """The mask as the architecture wants it: one, or one for every kind of layer."""
        config = self.model.module.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        kinds = getattr(config, "layer_types", None)
        if kinds is None:
            return tails.mask(copies, window, self.model.dtype)
        windows = {"full_attention": None, "sliding_attention": window}
        return {kind: tails.mask(copies, windows[kind], self.model.dtype) for kind in set(kinds)}

    @torch.no_grad()
    def _prepare(self, tails: Tails) -> _Prepared:
        before = tails.before
        prefix: tuple[tuple[Tensor, Tensor], ...] = ()
        if before.input_ids.shape[1] > 0:
            cache = DynamicCache()
            self.model.module.base_model(
                input_ids=before.input_ids,
                attention_mask=before.attention_mask,
                position_ids=before.position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            prefix = tuple((layer.keys, layer.values) for layer in cache.layers)
        part = _Prepared(tails, prefix, None)
        if self.first_layer == 0:
            return part
        last_below = HookPoint(self.first_layer - 1, "hook_resid_post")
        with record(self.model, [last_below], stop=True) as seen:
            self._forward(part, 1)
        above = prefix[self.first_layer :] or prefix[-1:]  # what is passed over reads no keys
        return _Prepared(tails, above[:1] * self.first_layer + above, seen[last_below])

    @torch.no_grad()
    def _agrees(self) -> bool:
        """Whether the first and the last tree of a batch come out as they do by plain passes."""
        for batch in self._batches[-1:]:
            for place in {0, len(batch.tails.trees) - 1}:
                part = batch.part(slice(place, place + 1))
                plain = whole_passes(self.model, self.hook_point, part.tails, [None])
                apart = (self._states(part, [None]) - plain).norm() / plain.norm()
                if not apart <= torch.finfo(self.model.dtype).eps ** 0.5:
                    return False
        return True


@contextmanager
def passed_over(model: LanguageModel, first_layer: int, residual: Tensor | None) -> Iterator[None]:
    """Let the layers below `first_layer` pass their input on, and the last of them the residual.

    Args:
        model: its layers are whole again when the block ends.
        first_layer: the first that is run.
        residual: what enters it, `(batch, seq, d_model)`; None where it is the model's first.
    """
    below = find_layers(model.module)[:first_layer]
    kept = [layer.__dict__.get("forward") for layer in below]
    try:
        for layer in below:
            layer.forward = _identity
        if residual is not None:
            below[-1].forward = _constant(residual)
        yield
    finally:
        for layer, forward in zip(below, kept, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


def _side_by_side(changes: Sequence[Edit | None]) -> Edit:
    """One edit of the copies: each its own."""

    def change_all(x: Tensor) -> Tensor:
        copies = x.chunk(len(changes), dim=1)
        pairs = zip(copies, changes, strict=True)
        return torch.cat([x if change is None else change(x) for x, change in pairs], dim=1)

    return change_all


def _identity(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return hidden_states


def _constant(residual: Tensor) -> Callable[..., Tensor]:
    def forward(*_args: Any, **_kwargs: Any) -> Tensor:
        return residual

    return forward
