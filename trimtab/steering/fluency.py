"""How fluent replies are: their perplexity to the unsteered model, and how much they repeat.

A vector that shows its behaviour in broken sentences has not steered the model, it has broken it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab.model.batch import pad
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import Rendered, render
from trimtab.pairs import Message

WORDS = 3  # length of the word sequences whose repetition is counted
REPLY_TOKENS_PER_BATCH = 512  # bounds the logits: 512 tokens of 49,152 words are 100 MB


@dataclass(frozen=True, eq=False)
class Fluency:
    """Of every reply.

    Attributes:
        nats: `(n,)` per token of the reply, given its prompt, by the unsteered model: the logarithm
            of its perplexity. NaN where the reply is empty.
        repetition: `(n,)` share of its word sequences that it has said before, 0 to 1.
    """

    nats: NDArray[np.float64]
    repetition: NDArray[np.float64]


@torch.no_grad()
def reply_nats(
    model: LanguageModel,
    conversations: Sequence[Sequence[Message]],
    replies: Sequence[str],
    *,
    chat: bool = True,
    system: str | None = None,
) -> NDArray[np.float64]:
    """Return the mean negative log-probability of each reply's tokens, `(n,)`, in nats.

    Call it outside of any steering. A reply is tokenised anew from its text, and its end is not
    counted: replies are cut short.

    Args:
        model: the unsteered model.
        conversations: what each reply answers.
        replies: one a conversation; an empty one is NaN.
        chat: render through the chat template.
        system: system prompt, None for the template's own.
    """
    nats = np.full(len(replies), np.nan)
    rendered = {
        i: render(model, conversation, reply, chat=chat, system=system)
        for i, (conversation, reply) in enumerate(zip(conversations, replies, strict=True))
        if reply.strip()
    }
    for rows in _batches(rendered):
        batch = pad([rendered[i].ids for i in rows], "left", model.pad_id, model.device)
        lengths = torch.tensor([_length(rendered[i]) for i in rows], device=model.device)
        longest = int(lengths.max())
        logits = model.module(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            logits_to_keep=longest + 1,
        ).logits[:, :-1]
        written = batch.input_ids[:, -longest:]
        logprobs = logits.float().log_softmax(-1).gather(-1, written[..., None]).squeeze(-1)
        columns = torch.arange(longest, device=model.device)
        counted = columns[None, :] >= longest - lengths[:, None]
        nats[rows] = (-(logprobs * counted).sum(1) / lengths).double().cpu().numpy()
    return nats


def repetition(replies: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of each reply's sequences of three words that came before in it, `(n,)`.

    0 for a reply of fewer words; "seq-rep-3" of Welleck et al. 2020, over words.
    """
    return np.array([_repeated(reply.lower().split()) for reply in replies], dtype=np.float64)


def _repeated(words: Sequence[str]) -> float:
    sequences = list(zip(*(words[start:] for start in range(WORDS)), strict=False))
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0


def _length(rendered: Rendered) -> int:
    return len(rendered.ids) - rendered.n_prompt


def _batches(rendered: dict[int, Rendered]) -> Iterator[list[int]]:
    """Yield rows of like length, so that little is padding."""
    rows: list[int] = []
    for i in sorted(rendered, key=lambda i: (_length(rendered[i]), len(rendered[i].ids))):
        if rows and (len(rows) + 1) * (_length(rendered[i]) + 1) > REPLY_TOKENS_PER_BATCH:
            yield rows
            rows = []
        rows.append(i)
    if rows:
        yield rows
