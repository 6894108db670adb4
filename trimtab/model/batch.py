"""Token sequences of unlike length as one batch."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Padded sequences: three int64 tensors `(batch, longest)`.

    `attention_mask` is 1 on tokens and 0 on pads. `position_ids` count each sequence's own tokens
    from 0, whichever side the pads are on; pads are at 0.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor


def pad(
    sequences: Sequence[Sequence[int]],
    side: Literal["left", "right"],
    pad_id: int,
    device: torch.device | str = "cpu",
) -> Batch:
    """Pad `sequences` of token ids to the longest, on the left (to generate) or on the right."""
    longest = max(map(len, sequences), default=0)
    input_ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(sequences):
        tokens = slice(longest - len(ids), longest) if side == "left" else slice(0, len(ids))
        input_ids[row, tokens] = torch.tensor(ids, dtype=torch.long)
        attention_mask[row, tokens] = 1
    position_ids = (attention_mask.cumsum(dim=1) - 1) * attention_mask
    return Batch(*(t.to(device) for t in (input_ids, attention_mask, position_ids)))
