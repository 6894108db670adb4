"""One row a text: the mean of the residual, or of SAE features, over its tokens."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trimtab.model.batch import pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import residuals

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

ROWS_PER_BATCH = 32


def mean_residuals(
    model: "LanguageModel",
    hook_point: HookPoint,
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
) -> Tensor:
    """Mean activation `(n, d_model)`, float32 on the CPU, of each row from its start on.

    Args:
        model: the language model; no layer above the hook point is run.
        hook_point: where to read.
        rows: token ids of each text.
        starts: first position of each row that counts, before its end.
    """
    means = torch.zeros(len(rows), model.d_model)
    for i, tokens in _activations(model, hook_point, rows):
        means[i] = tokens[starts[i] :].float().mean(0).cpu()
    return means


def mean_features(
    model: "LanguageModel",
    sae: "SAE",
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Mean residual `(n, d_model)` and mean features `(n, d_sae)` of each row from its start on.

    Both are float32 on the CPU, and what a store keeps of a completion whose prompt ends at the
    start, or of a prompt with start 0: position 0 counts, and has no features.

    Args:
        model: the language model; no layer above the SAE's hook point is run.
        sae: encodes.
        rows: token ids of each text.
        starts: first position of each row that counts, before its end.
    """
    means = torch.zeros(len(rows), model.d_model)
    features = torch.zeros(len(rows), sae.d_sae)
    for i, tokens in _activations(model, sae.hook_point, rows):
        counted = tokens[starts[i] :].float()
        means[i] = counted.mean(0).cpu()
        encoded = sae.encode(counted).float()
        if starts[i] == 0:
            encoded[0] = 0.0
        features[i] = encoded.mean(0).cpu()
    return means, features


@torch.no_grad()
def _activations(
    model: "LanguageModel", hook_point: HookPoint, rows: Sequence[Sequence[int]]
) -> Iterator[tuple[int, Tensor]]:
    """Yield each row's number and activations `(tokens, d_model)`, rows of like length together."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for begin in range(0, len(order), ROWS_PER_BATCH):
        chosen = order[begin : begin + ROWS_PER_BATCH]
        batch = pad([rows[i] for i in chosen], "right", model.pad_id, model.device)
        seen = residuals(
            model,
            batch.input_ids,
            batch.attention_mask,
            [hook_point],
            position_ids=batch.position_ids,
        )[hook_point]
        for place, i in enumerate(chosen):
            yield i, seen[place, : len(rows[i])]
