"""Greedy replies of a model, steered or not."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

from trimtab.model.batch import pad
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render_prompt
from trimtab.pairs import Message
from trimtab.steering.apply import Steering, steered

REPLIES_PER_BATCH = 64


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

    def cache(self) -> DynamicCache | None:
        """Return a cache that may grow; the kept tensors are never written to."""
        return DynamicCache(self.keys_values) if self.keys_values else None


@torch.no_grad()
def read_prompts(
    model: LanguageModel,
    conversations: Sequence[Sequence[Message]],
    *,
    chat: bool = True,
    system: str | None = None,
) -> Prompts:
    """Render conversations and run all but the last token of each.

    Args:
        model: the language model.
        conversations: messages up to the reply that is wanted.
        chat: render through the chat template.
        system: system prompt, None for the template's own.
    """
    prompts = [render_prompt(model, c, chat=chat, system=system) for c in conversations]
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


@torch.no_grad()
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
    replies = [""] * len(prompts)
    for batch in prompts.batches:
        with nullcontext() if steering is None else steered(model, steering, multiplier):
            tokens = model.module.generate(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                past_key_values=batch.cache() if from_last else None,
                generation_config=settings,
            )
        new = tokens[:, batch.input_ids.shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        for row, text in zip(batch.rows, texts, strict=True):
            replies[row] = text.strip()
    return replies
