"""Greedy replies of a model, steered or not; several operations share a forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, DynamicLayer

from trimtab.errors import ModelError, VectorError
from trimtab.model.batch import pad
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render_prompt
from trimtab.pairs import Message
from trimtab.steering.apply import Edit, Steering, steered

REPLIES_PER_BATCH = 64
ROWS_PER_PASS = 160  # beyond it a pass of the default model on a CPU gets no cheaper a row


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of one model, batched, with all but their last token run once.

    Nothing before the last token is steered (positions `prompt_end`), so its keys and values serve
    every vector.
    """

    model: LanguageModel
    batches: tuple["_Batch", ...]

    def __len__(self) -> int:
        return sum(len(batch.rows) for batch in self.batches)


@dataclass(frozen=True, eq=False)
class _Batch:
    rows: tuple[int, ...]
    input_ids: Tensor  # `(rows, width)`, left-padded
    attention_mask: Tensor
    keys_values: tuple[tuple[Tensor, Tensor], ...]  # a layer, of all columns but the last

    def cache(self, copies: int, new_tokens: int) -> DynamicCache | None:
        """Return a cache that may grow; the kept tensors are never written to."""
        if not self.keys_values:
            return None
        cache = DynamicCache()
        cache.layers = [_RoomyLayer(layer, copies, new_tokens) for layer in self.keys_values]
        return cache


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values with room for the reply: growing copies nothing.

    Its parent puts every token's keys behind all earlier ones by copying the whole.
    """

    def __init__(self, keys_values: tuple[Tensor, Tensor], copies: int, new_tokens: int) -> None:
        super().__init__()
        self.lazy_initialization(*keys_values)
        rows, heads, length, _ = keys_values[0].shape
        self._room = []
        for kept in keys_values:
            room = kept.new_empty(copies * rows, heads, length + new_tokens, kept.shape[-1])
            room[:, :, :length] = kept.repeat(copies, 1, 1, 1)
            self._room.append(room)
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = (t[:, :, :length] for t in self._room)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        before = self.keys.shape[-2]
        after = before + key_states.shape[-2]
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after] = new
        self._show(after)
        return self.keys, self.values


@torch.no_grad()
def read_prompts(
    model: LanguageModel,
    conversations: Sequence[Sequence[Message]],
    *,
    chat: bool = True,
    system: str | None = None,
    room: int = 1,
) -> Prompts:
    """Render conversations and run all but the last token of each.

    Args:
        model: the language model.
        conversations: messages up to the reply that is wanted.
        chat: render through the chat template.
        system: system prompt, None for the template's own.
        room: tokens that the model's context must leave for the reply.

    Raises:
        ModelError: a conversation leaves less.
    """
    prompts = render_with_room(model, conversations, room, chat=chat, system=system)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    batches = []
    for start in range(0, len(order), REPLIES_PER_BATCH):
        rows = tuple(order[start : start + REPLIES_PER_BATCH])
        batch = pad([prompts[i] for i in rows], "left", model.pad_id, model.device)
        cache = DynamicCache()
        if batch.input_ids.shape[1] > 1:
            model.module(
                input_ids=batch.input_ids[:, :-1],
                attention_mask=batch.attention_mask[:, :-1],
                position_ids=batch.position_ids[:, :-1],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        keys_values = tuple((layer.keys, layer.values) for layer in cache.layers)
        batches.append(_Batch(rows, batch.input_ids, batch.attention_mask, keys_values))
    return Prompts(model, tuple(batches))


def render_with_room(
    model: LanguageModel,
    conversations: Sequence[Sequence[Message]],
    room: int,
    *,
    chat: bool = True,
    system: str | None = None,
) -> list[tuple[int, ...]]:
    """Return each conversation's token ids.

    Raises:
        ModelError: one leaves less than `room` tokens of the model's context.
    """
    prompts = [render_prompt(model, c, chat=chat, system=system) for c in conversations]
    for ids, conversation in zip(prompts, conversations, strict=True):
        if not leaves_room(model, ids, room):
            raise ModelError(
                f"a prompt of {len(ids):,} tokens leaves no room for a reply of {room} in the "
                f"{model.context:,} that {model.name} can read; shorten it or leave it out: "
                f"{conversation[-1]['content'][:60]!r}"
            )
    return prompts


def leaves_room(model: LanguageModel, ids: Sequence[int], room: int) -> bool:
    """Whether a prompt leaves so many tokens of the model's context."""
    return model.context is None or len(ids) + room <= model.context


def generate(
    prompts: Prompts,
    steering: Steering | None = None,
    multiplier: float = 1.0,
    *,
    max_new_tokens: int = 32,
) -> list[str]:
    """Return one greedy reply a conversation, in their order, without special tokens.

    Args:
        prompts: what `read_prompts` made of the conversations.
        steering: what is applied while prompts are read and replies written.
        multiplier: its strength.
        max_new_tokens: length limit in tokens.
    """
    if steering is None:
        return _generate(prompts, None, 1, max_new_tokens)[0]
    return generate_each(prompts, [(steering, multiplier)], max_new_tokens=max_new_tokens)[0]


def generate_each(
    prompts: Prompts, steerings: Sequence[tuple[Steering, float]], *, max_new_tokens: int = 32
) -> list[list[str]]:
    """Return the greedy replies under each of several operations, as `generate` does for one.

    The operations share forward passes, each on its own copy of the prompts, as many at once as
    `ROWS_PER_PASS` lets.

    Args:
        prompts: what `read_prompts` made of the conversations.
        steerings: operations at one hook point and on the same positions, with their multipliers.
        max_new_tokens: length limit in tokens.

    Raises:
        VectorError: the operations act at unlike places.
    """
    places = {(steering.hook_point, steering.positions) for steering, _ in steerings}
    if len(places) > 1:
        raise VectorError("only operations at one hook point and position share a forward pass")
    widest = max((len(batch.rows) for batch in prompts.batches), default=1)
    at_once = max(1, ROWS_PER_PASS // widest)
    replies: list[list[str]] = []
    for start in range(0, len(steerings), at_once):
        some = steerings[start : start + at_once]
        replies += _generate(prompts, _SideBySide(some), len(some), max_new_tokens)
    return replies


class _SideBySide:
    """Several operations on equal blocks of rows, one behind the other."""

    def __init__(self, steerings: Sequence[tuple[Steering, float]]) -> None:
        self._steerings = steerings
        self.hook_point = steerings[0][0].hook_point
        self.positions = steerings[0][0].positions

    def edit(self, multiplier: float) -> Edit | None:
        edits = [steering.edit(multiplier * strength) for steering, strength in self._steerings]
        if not any(edits):
            return None

        def change(x: Tensor) -> Tensor:
            blocks = zip(edits, x.chunk(len(edits)), strict=True)
            return torch.cat([block if edit is None else edit(block) for edit, block in blocks])

        return change


@torch.no_grad()
def _generate(
    prompts: Prompts, steering: Steering | None, copies: int, max_new_tokens: int
) -> list[list[str]]:
    """Return the replies to each of `copies` copies of the prompts."""
    model = prompts.model
    tokenizer = model.tokenizer
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=model.pad_id,
        eos_token_id=model.module.generation_config.eos_token_id or tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    from_last = steering is None or steering.positions == "prompt_end"
    replies = [[""] * len(prompts) for _ in range(copies)]
    for batch in prompts.batches:
        acting = nullcontext() if steering is None else steered(model, steering)
        with _no_defaults(model), acting:
            tokens = model.module.generate(
                input_ids=batch.input_ids.repeat(copies, 1),
                attention_mask=batch.attention_mask.repeat(copies, 1),
                past_key_values=batch.cache(copies, max_new_tokens) if from_last else None,
                generation_config=settings,
            )
        new = tokens[:, batch.input_ids.shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        for number, text in enumerate(texts):
            copy, place = divmod(number, len(batch.rows))
            replies[copy][batch.rows[place]] = text.strip()
    return replies


@contextmanager
def _no_defaults(model: LanguageModel) -> Iterator[None]:
    """Take away what the model's maker wants of generation, such as a repetition penalty.

    transformers fills from it whatever a call leaves open, and greedy would not be greedy.
    """
    kept = model.module.generation_config
    model.module.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.module.generation_config = kept
