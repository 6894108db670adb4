"""Run samples through the model and the SAE, and hand back what a shard stores of them.

1. A prompt runs once, in a left-padded batch of prompts of like length, up to the hook point.
2. Its key/value cache is spread over its completions, which run on from there, right-padded, with
   explicit positions.
3. The SAE encodes every token but the first, and what is not zero is kept. The first token is an
   attention sink: its norm is some 140 times the others', and SAEs are trained without it.
4. A completion's tokens are pooled on the device, from the very values that are stored.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor
from transformers import DynamicCache

from trimtab.model.batch import pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.token_text import token_text
from trimtab.store.plan import Planned

if TYPE_CHECKING:
    from trimtab.model.sae import SAE

KINDS = {"positive": 1, "negative": 2}
"""Kind of a sequence; a prompt's is 0."""

SAMPLES = {
    "sample": pl.UInt32,
    "status": pl.String,
    "n_prompt_tokens": pl.UInt16,
    "n_positive_tokens": pl.UInt16,
    "n_negative_tokens": pl.UInt16,
    "n_truncated": pl.UInt32,
}

POOLED = {
    "sequence": pl.UInt32,
    "feature": pl.UInt32,
    "mean": pl.Float32,
    "last": pl.Float32,
    "max": pl.Float32,
    "n_active": pl.UInt16,
}

TOKENS_PER_ENCODE = 1024  # bounds the dense activations: 1,024 tokens of 16,384 features are 64 MB

Tables = dict[str, pl.DataFrame]
Integers = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Settings:
    """How samples are run; all of it but `batch_tokens` is in the fingerprint."""

    hook_point: HookPoint
    chat: bool
    system: str | None
    max_tokens: int
    batch_tokens: int


@dataclass(frozen=True, slots=True)
class _Tokenised:
    index: int
    prompt: tuple[int, ...] = ()
    completions: tuple[tuple[int, tuple[int, ...]], ...] = ()  # (kind, ids)
    n_truncated: int = 0
    status: str = "ok"

    @property
    def longest(self) -> int:
        return max(len(ids) for _, ids in self.completions)


class _Sequence(NamedTuple):
    number: int
    start: int  # position of the first id
    ids: tuple[int, ...]


def capture(
    model: LanguageModel, sae: "SAE | None", planned: Sequence[Planned], settings: Settings
) -> Iterator[Tables]:
    """Run samples batch by batch; every batch's tables hold all that is stored of its samples."""
    tokenised = [_tokenise(model, entry, settings) for entry in planned]
    dropped = [sample for sample in tokenised if sample.status != "ok"]
    if dropped:
        yield {"samples": _samples(dropped)}
    for batch in _batches([s for s in tokenised if s.status == "ok"], settings.batch_tokens):
        yield _capture(model, sae, batch, settings.hook_point)


def _tokenise(model: LanguageModel, entry: Planned, settings: Settings) -> _Tokenised:
    sample = entry.sample
    prompt: tuple[int, ...] = ()
    completions = []
    n_truncated = 0
    for side, text in sample.sides:
        rendered = render(model, sample.messages, text, chat=settings.chat, system=settings.system)
        prompt, ids = rendered.ids[: rendered.n_prompt], rendered.ids[rendered.n_prompt :]
        if not ids:
            return _Tokenised(entry.index, status="empty_completion")
        room = settings.max_tokens - len(prompt)
        if room < 1:
            return _Tokenised(entry.index, status="prompt_too_long")
        n_truncated += len(ids[room:])
        completions.append((KINDS[side], ids[:room]))
    return _Tokenised(entry.index, prompt, tuple(completions), n_truncated)


def _batches(samples: Iterable[_Tokenised], batch_tokens: int) -> Iterator[list[_Tokenised]]:
    """Group samples of like length, so that little is padding."""
    batch: list[_Tokenised] = []
    for sample in sorted(samples, key=lambda s: (len(s.prompt), s.longest, s.index)):
        grown = [*batch, sample]
        width = len(sample.prompt) + 2 * max(s.longest for s in grown)
        if batch and len(grown) * width > batch_tokens:
            yield batch
            grown = [sample]
        batch = grown
    if batch:
        yield batch


@torch.inference_mode()
def _capture(
    model: LanguageModel, sae: "SAE | None", batch: list[_Tokenised], hook_point: HookPoint
) -> Tables:
    sequences, residual = _run(model, batch, hook_point)
    lengths = [len(sequence.ids) for sequence in sequences]
    numbers = np.repeat(np.array([s.number for s in sequences], np.uint32), lengths)
    positions = np.concatenate([np.arange(len(s.ids)) + s.start for s in sequences])

    bad = set(numbers[~residual.isfinite().all(dim=1).cpu().numpy()] // 3)
    tables = {
        "tokens": pl.DataFrame(
            {
                "sequence": numbers,
                "position": positions.astype(np.uint16),
                "token_id": np.concatenate([s.ids for s in sequences]).astype(np.uint32),
                "text": _texts(model, [token for s in sequences for token in s.ids]),
            }
        ),
        "residuals": _pooled_residuals(sequences, residual),
    }
    if sae is not None:
        bfloat16 = model.dtype == torch.bfloat16
        activations, pooled = [], []
        for first, last in _spans(lengths):
            start, end = sum(lengths[:first]), sum(lengths[:last])
            values = sae.encode(residual[start:end]).float()
            values[torch.from_numpy(positions[start:end] == 0).to(values.device)] = 0
            if bfloat16:
                values = values.bfloat16().float()
            activations.append(_nonzero(values, numbers[start:end], positions[start:end], bfloat16))
            pooled.append(_pooled_features(sequences[first:last], values))
            bad |= set(activations[-1].filter(~pl.col("finite"))["sequence"] // 3)
        tables["activations"] = pl.concat(activations).drop("finite")
        tables["pooled"] = pl.concat(pooled)
    if bad:
        kept = ~(pl.col("sequence") // 3).is_in([int(index) for index in bad])
        tables = {name: table.filter(kept) for name, table in tables.items()}
    samples = [replace(s, status="not_finite") if s.index in bad else s for s in batch]
    return {"samples": _samples(samples), **tables}


def _run(
    model: LanguageModel, batch: list[_Tokenised], hook_point: HookPoint
) -> tuple[list[_Sequence], Tensor]:
    """Activations `(tokens, d_model)`, float32, of all prompts and then all completions."""
    prompts = pad([sample.prompt for sample in batch], "left", model.pad_id, model.device)
    # The embeddings know no context, and a cache that no layer has filled would seem empty.
    embeddings = hook_point == HookPoint(0, "hook_resid_pre")
    cache = None if embeddings else DynamicCache()
    before = residuals(
        model,
        prompts.input_ids,
        prompts.attention_mask,
        [hook_point],
        past_key_values=cache,
        position_ids=prompts.position_ids,
    )[hook_point]

    rows = [(row, *completion) for row, s in enumerate(batch) for completion in s.completions]
    index = torch.tensor([row for row, _, _ in rows])  # on the CPU: layers may be on many devices
    completions = pad([ids for _, _, ids in rows], "right", model.pad_id, model.device)
    offsets = prompts.attention_mask.sum(dim=1, keepdim=True)[index]
    mask = completions.attention_mask
    if cache is not None:
        cache.batch_select_indices(index)
        mask = torch.cat([prompts.attention_mask[index], mask], dim=1)
    after = residuals(
        model,
        completions.input_ids,
        mask,
        [hook_point],
        past_key_values=cache,
        position_ids=completions.position_ids + offsets,
    )[hook_point]

    sequences = [_Sequence(3 * sample.index, 0, sample.prompt) for sample in batch]
    for row, kind, ids in rows:
        sequences.append(_Sequence(3 * batch[row].index + kind, len(batch[row].prompt), ids))
    tokens = [
        activation[padded.attention_mask.bool().to(activation.device)]
        for activation, padded in ((before, prompts), (after, completions))
    ]
    return sequences, torch.cat(tokens).float()


def _spans(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """Ranges of whole sequences, each of few enough tokens to encode at once."""
    first, tokens = 0, 0
    for number, length in enumerate(lengths):
        if number > first and tokens + length > TOKENS_PER_ENCODE:
            yield first, number
            first, tokens = number, 0
        tokens += length
    yield first, len(lengths)


def _nonzero(
    values: Tensor,
    numbers: npt.NDArray[np.uint32],
    positions: npt.NDArray[np.int64],
    bfloat16: bool,
) -> pl.DataFrame:
    """Rows of the activations table, and whether each value is finite."""
    tokens, features = (column.int().cpu().numpy() for column in values.nonzero(as_tuple=True))
    stored = values[values != 0]
    finite = stored.isfinite().cpu().numpy()
    if bfloat16:
        bits = stored.bfloat16().view(torch.int16).cpu().numpy().view(np.uint16)
    return pl.DataFrame(
        {
            "sequence": numbers[tokens],
            "position": positions[tokens].astype(np.uint16),
            "feature": features.astype(np.uint32),
            "value": bits if bfloat16 else stored.float().cpu().numpy(),
            "finite": finite,
        }
    )


def _pooled_features(sequences: list[_Sequence], values: Tensor) -> pl.DataFrame:
    """Mean, last, maximum and count over each completion's tokens, where any of them is active."""
    split = zip(sequences, torch.split(values, [len(s.ids) for s in sequences]), strict=True)
    completions = [(s.number, rows) for s, rows in split if s.number % 3]
    if not completions:
        return pl.DataFrame(schema=POOLED)
    n_active = torch.stack([(rows != 0).sum(dim=0) for _, rows in completions])
    where = n_active.nonzero(as_tuple=True)
    row, feature = (column.cpu().numpy() for column in where)
    pooled = {
        "mean": torch.stack([rows.mean(dim=0) for _, rows in completions]),
        "last": torch.stack([rows[-1] for _, rows in completions]),
        "max": torch.stack([rows.amax(dim=0) for _, rows in completions]),
        "n_active": n_active,
    }
    columns = {
        "sequence": np.array([number for number, _ in completions])[row],
        "feature": feature,
        **{name: table[where].cpu().numpy() for name, table in pooled.items()},
    }
    return pl.DataFrame(columns, schema_overrides=POOLED)


def _pooled_residuals(sequences: list[_Sequence], residual: Tensor) -> pl.DataFrame:
    split = zip(sequences, torch.split(residual, [len(s.ids) for s in sequences]), strict=True)
    completions = [(s.number, rows) for s, rows in split if s.number % 3]
    return pl.DataFrame(
        {
            "sequence": np.array([number for number, _ in completions], np.uint32),
            "mean": torch.stack([rows.mean(dim=0) for _, rows in completions]).cpu().numpy(),
            "last": torch.stack([rows[-1] for _, rows in completions]).cpu().numpy(),
        }
    )


def _samples(samples: list[_Tokenised]) -> pl.DataFrame:
    counts = [{0: len(s.prompt)} | {kind: len(ids) for kind, ids in s.completions} for s in samples]
    rows = {
        "sample": [s.index for s in samples],
        "status": [s.status for s in samples],
        "n_prompt_tokens": [count[0] for count in counts],
        "n_positive_tokens": [count.get(1, 0) for count in counts],
        "n_negative_tokens": [count.get(2, 0) for count in counts],
        "n_truncated": [s.n_truncated for s in samples],
    }
    return pl.DataFrame(rows, schema=SAMPLES)


def _texts(model: LanguageModel, tokens: list[int]) -> list[str]:
    """Text of each token by itself."""
    texts = {token: token_text(model.tokenizer, [token]) for token in set(tokens)}
    return [texts[token] for token in tokens]
