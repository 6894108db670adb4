"""Greedy replies of a model, steered or not."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from transformers import GenerationConfig

from trimtab.model.batch import pad
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render_prompt
from trimtab.pairs import Message
from trimtab.steering.apply import Steering, steered

REPLIES_PER_BATCH = 32


def generate(
    model: LanguageModel,
    conversations: Sequence[Sequence[Message]],
    steering: Steering | None = None,
    multiplier: float = 1.0,
    *,
    max_new_tokens: int = 32,
    chat: bool = True,
    system: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Return one greedy reply a conversation, in their order, without special tokens.

    Args:
        model: the language model.
        conversations: messages up to the reply that is wanted.
        steering: what is applied while prompts are read and replies written.
        multiplier: its strength.
        max_new_tokens: length limit in tokens.
        chat: render through the chat template.
        system: system prompt, None for the template's own.
        progress: called with the number of replies finished after each batch.
    """
    prompts = [render_prompt(model, c, chat=chat, system=system) for c in conversations]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    replies = [""] * len(prompts)
    tokenizer = model.tokenizer
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=model.module.generation_config.eos_token_id or tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    for start in range(0, len(order), REPLIES_PER_BATCH):
        chosen = order[start : start + REPLIES_PER_BATCH]
        batch = pad([prompts[i] for i in chosen], "left", tokenizer.pad_token_id, model.device)
        active = nullcontext() if steering is None else steered(model, steering, multiplier)
        with active, torch.no_grad():
            tokens = model.module.generate(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                generation_config=settings,
            )
        new = tokens[:, batch.input_ids.shape[1] :]
        for i, reply in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True)):
            replies[i] = reply.strip()
        if progress is not None:
            progress(len(chosen))
    return replies
