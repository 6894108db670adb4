"""One row a text: the mean of the residual over its tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trimtab.model.batch import pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import residuals

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel

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
            means[i] = seen[place, starts[i] : len(rows[i])].float().mean(0).cpu()
    return means
