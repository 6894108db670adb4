"""Run a batch through the model and the SAEs, and bring to the host what is stored of it.

1. A prompt runs once, in a left-padded batch of prompts of like length, up to the deepest of the
   hook points.
2. Its key/value cache is spread over its completions, which run on from there, right-padded, with
   explicit positions.
3. Each SAE encodes every token but the first, and what is not zero is kept. The first token is an
   attention sink: its norm is some 140 times the others', and SAEs are trained without it.
4. Sparsifying and pooling happen on the device. What is left is copied to the host behind the back
   of the next batch; `wait_for_copies` says when it is there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import DynamicCache

from trimtab.model.batch import Batch, pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.store.building.batches import Tokenised

if TYPE_CHECKING:
    from trimtab.model.sae import SAE

DENSE = 1 << 24
"""Activations that are dense at one time: 64 MB."""

EMBEDDINGS = HookPoint(0, "hook_resid_pre")

Half = tuple[dict[HookPoint, Tensor], Batch]
"""Activations `(batch, seq, d_model)` of all prompts or all completions, and what was padded."""


class Encoder(NamedTuple):
    """Where activations are read, what encodes them, and whether values are rounded."""

    hook_point: HookPoint
    sae: "SAE | None"
    bfloat16: bool


class Span(NamedTuple):
    """Tokens of a prompt or a completion: its sequence, the first one's position, the ids."""

    number: int
    start: int
    ids: tuple[int, ...]


class Encoded(NamedTuple):
    """What one encoder makes of a batch, on the host.

    Attributes:
        finite: bool `(tokens,)`, whether the model's activation is.
        residual: float32 `(completions, 2, d_model)`, mean over a completion's tokens and last.
        nonzero: int32 `(3, nnz)`: number of the token among those that are not at position 0,
            feature, and the bits of the float32 value; None without SAE.
    """

    finite: Tensor
    residual: Tensor
    nonzero: Tensor | None


class Captured(NamedTuple):
    """A batch, its spans (all prompts, then all completions), and what each encoder made."""

    samples: list[Tokenised]
    spans: list[Span]
    encoded: list[Encoded]


def positions(spans: Sequence[Span]) -> npt.NDArray[np.int64]:
    """Position of every token of `spans`, `(tokens,)`."""
    return np.concatenate([np.arange(len(span.ids)) + span.start for span in spans])


@torch.inference_mode()
def capture(model: LanguageModel, batch: list[Tokenised], encoders: Sequence[Encoder]) -> Captured:
    """Run a batch once for all encoders. The result's tensors are still under way to the host."""
    spans = [Span(3 * sample.index, 0, sample.prompt) for sample in batch]
    for sample in batch:
        for kind, ids in sample.completions:
            spans.append(Span(3 * sample.index + kind, len(sample.prompt), ids))
    inner = torch.from_numpy(np.flatnonzero(positions(spans)))
    halves = forward(model, batch, {encoder.hook_point for encoder in encoders})
    encoded = []
    for hook_point, sae, bfloat16 in encoders:
        tokens = unpadded(halves, hook_point)
        after, completions = halves[1]
        nonzero = None
        if sae is not None:
            nonzero = _to_host(_nonzero(sae, tokens[inner.to(tokens.device)], bfloat16))
        pooled = _pooled(after[hook_point].float(), completions.attention_mask)
        finite = tokens.isfinite().all(dim=1)
        encoded.append(Encoded(_to_host(finite), _to_host(pooled), nonzero))
    return Captured(batch, spans, encoded)


def wait_for_copies() -> None:
    """Return when all that was captured has arrived on the host."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)


def forward(
    model: LanguageModel, batch: Sequence[Tokenised], hook_points: set[HookPoint]
) -> list[Half]:
    """Run the prompts, and then the completions, which run on from the prompts' caches."""
    rows = [(row, ids) for row, sample in enumerate(batch) for _, ids in sample.completions]
    index = torch.tensor([row for row, _ in rows])  # on the CPU: layers may be on many devices
    prompts = pad([sample.prompt for sample in batch], "left", model.pad_id, model.device)
    completions = pad([ids for _, ids in rows], "right", model.pad_id, model.device)
    # The embeddings know no context, and a cache that no layer has filled would seem empty.
    cache = None if hook_points == {EMBEDDINGS} else DynamicCache()
    before = residuals(
        model,
        prompts.input_ids,
        prompts.attention_mask,
        hook_points,
        past_key_values=cache,
        position_ids=prompts.position_ids,
    )
    offsets = prompts.attention_mask.sum(dim=1, keepdim=True)[index]
    mask = completions.attention_mask
    if cache is not None:
        cache.batch_select_indices(index)
        mask = torch.cat([prompts.attention_mask[index], mask], dim=1)
    after = residuals(
        model,
        completions.input_ids,
        mask,
        hook_points,
        past_key_values=cache,
        position_ids=completions.position_ids + offsets,
    )
    return [(before, prompts), (after, completions)]


def unpadded(halves: Sequence[Half], hook_point: HookPoint) -> Tensor:
    """Activations `(tokens, d_model)`, float32, of all prompts and then of all completions."""
    tokens = [
        activations[hook_point][padded.attention_mask.bool().to(activations[hook_point].device)]
        for activations, padded in halves
    ]
    return torch.cat(tokens).float()


def _nonzero(sae: "SAE", x: Tensor, bfloat16: bool) -> Tensor:
    """Token, feature and bits of the value, `(3, nnz)`, of what is not zero of `x`."""
    found = []
    step = max(1, DENSE // sae.d_sae)
    for start in range(0, len(x), step):
        values = sae.encode(x[start : start + step]).float()
        token, feature = values.nonzero(as_tuple=True)
        kept = values[token, feature]
        if bfloat16:
            kept = kept.bfloat16().float()
        found.append(torch.stack([token.int() + start, feature.int(), kept.view(torch.int32)]))
    if not found:
        return torch.empty(3, 0, dtype=torch.int32)
    return torch.cat(found, dim=1)


def _pooled(x: Tensor, mask: Tensor) -> Tensor:
    """Mean and last over the unmasked of `x` `(batch, seq, d_model)`: `(batch, 2, d_model)`."""
    mask = mask.to(x.device)
    counts = mask.sum(dim=1)
    x = torch.where(mask.bool()[..., None], x, 0)
    last = x[torch.arange(len(x), device=x.device), counts - 1]
    return torch.stack([x.sum(dim=1) / counts[:, None], last], dim=1)


def _to_host(x: Tensor) -> Tensor:
    if x.device.type != "cuda":
        return x.cpu()
    host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    return host.copy_(x, non_blocking=True)
