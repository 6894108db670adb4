"""An endless, shuffled, resumable stream of training batches from shards of activations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

BLOCK_SHARDS = 8  # mixed with each other: 260,000 tokens, 0.6 GB at d_model 576


@dataclass(frozen=True)
class Position:
    """Where a stream goes on: the pass over the text, the block in it, the batch in that."""

    epoch: int = 0
    block: int = 0
    batch: int = 0


class Batches(Iterator[Tensor]):
    """Batches `(size, d_model)`, float32, mixed within a block; `position` is the next one's.

    `shards(i)` yields the text's shards from the i-th on; the text begins anew when it ends, in
    another order within the blocks. The order follows from seed and position alone, so that a
    stream that is opened where another stopped gives what that one would have given.
    """

    def __init__(
        self,
        shards: Callable[[int], Iterator[Tensor]],
        size: int,
        seed: int,
        position: Position = Position(),
    ) -> None:
        self.position = position
        self._stream = self._batches(shards, size, seed)

    def __next__(self) -> Tensor:
        return next(self._stream)

    def _batches(
        self, shards: Callable[[int], Iterator[Tensor]], size: int, seed: int
    ) -> Iterator[Tensor]:
        while True:
            stream = shards(self.position.block * BLOCK_SHARDS)
            while block := list(islice(stream, BLOCK_SHARDS)):
                here = self.position
                order = torch.Generator().manual_seed(hash((seed, here.epoch, here.block)) % 2**63)
                tokens = torch.cat(block)
                rows = torch.randperm(len(tokens), generator=order)
                for i in range(here.batch, len(tokens) // size):
                    self.position = replace(here, batch=i + 1)
                    yield tokens[rows[i * size : (i + 1) * size]].float()
                self.position = Position(here.epoch, here.block + 1)
            if self.position.block == 0:
                raise ValueError("the text is empty")
            self.position = Position(self.position.epoch + 1)
