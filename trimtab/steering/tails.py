"""What a vector can change of rows of tokens: their tails, with what rows share standing once.

The tails of rows that begin alike are a tree of tokens. A batch of trees is laid out for a model
to read every node once, with a mask of the earlier nodes that each one sees. Copies of the trees
may stand side by side behind one prefix, one for every vector: a copy sees the prefix and itself.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trimtab.model.batch import Batch, pad


@dataclass
class Tree:
    """The tails of rows that are the same up to their tails.

    Attributes:
        prefix: tokens before the tails.
        tokens: one a node.
        parents: the node before each node, which has a lower number; -1 before a first one.
        paths: every row's nodes, in the order of its tokens.
        reads: nodes whose final states are wanted, one for each of `ids`.
        ids: numbers of the wanted states.
    """

    prefix: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)

    def add(self, tail: Sequence[int], first_read: int, first_id: int) -> None:
        """Add a row's tail, whose states are wanted from its token `first_read` on."""
        known = {key: node for node, key in enumerate(zip(self.parents, self.tokens, strict=True))}
        path, node = [], -1
        for token in tail:
            parent, node = node, known.get((node, token), len(self.tokens))
            if node == len(self.tokens):
                self.parents.append(parent)
                self.tokens.append(token)
            path.append(node)
        self.paths.append(path)
        self.reads += path[first_read:]
        self.ids += range(first_id, first_id + len(path) - first_read)


def plant(
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
    reads: Sequence[int],
    groups: Sequence[Hashable],
) -> list[Tree]:
    """Return one tree for every group of rows that are the same up to their tails.

    Args:
        rows: token ids.
        starts: where each row's tail begins.
        reads: first position of each row whose final state is wanted, `start <= read < len(row)`;
            wanted states are numbered row by row.
        groups: rows of one group and one prefix make one tree.
    """
    trees: dict[tuple[Hashable, tuple[int, ...]], Tree] = {}
    first_id = 0
    for row, start, read, group in zip(rows, starts, reads, groups, strict=True):
        prefix = tuple(row[:start])
        tree = trees.setdefault((group, prefix), Tree(prefix))
        tree.add(row[start:], read - start, first_id)
        first_id += len(row) - read
    return list(trees.values())


@dataclass(frozen=True, eq=False)
class Tails:
    """A batch of trees; tensors `(trees, width, ...)`, padded at the end.

    Attributes:
        before: the prefixes, padded on the left.
        positions: each node's position in its row.
        sees: bool `(trees, width, width)`, the nodes that each node sees; a pad sees itself.
        reads: bool, nodes whose final states are wanted.
    """

    trees: tuple[Tree, ...]
    before: Batch
    input_ids: Tensor
    positions: Tensor
    sees: Tensor
    reads: Tensor

    @property
    def width(self) -> int:
        """Nodes of the largest tree."""
        return self.input_ids.shape[1]

    def part(self, some: slice) -> "Tails":
        """Return some of the trees; nothing is copied."""
        return Tails(
            self.trees[some],
            Batch(*(tensor[some] for tensor in self.before)),
            self.input_ids[some],
            self.positions[some],
            self.sees[some],
            self.reads[some],
        )

    def wanted(self) -> tuple[Tensor, Tensor]:
        """Return the numbers of the wanted states, and where in `reads`' order each one is."""
        order = (self.reads.flatten().cumsum(0) - 1).view_as(self.reads)
        trees = [i for i, tree in enumerate(self.trees) for _ in tree.reads]
        nodes = [node for tree in self.trees for node in tree.reads]
        ids = [number for tree in self.trees for number in tree.ids]
        return torch.tensor(ids), order[trees, nodes].cpu()

    def mask(self, copies: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return what is added to attention scores, `(trees, 1, copies * width, keys)`.

        Keys are those of the prefix, then those of the copies. Within a sliding `window` a
        node sees itself and the `window - 1` tokens before it.
        """
        before = self.before.attention_mask.bool()[:, None, :]
        own = self.sees
        if window is not None:
            at = self.positions[:, :, None]
            before = before & (at - self.before.position_ids[:, None, :] < window)
            own = own & (at - self.positions[:, None, :] < window)
        n, width = self.input_ids.shape
        before = before.expand(n, width, -1).repeat(1, copies, 1)
        same = torch.eye(copies, dtype=torch.bool, device=own.device)
        apart = same[None, :, None, :, None] & own[:, None, :, None, :]
        seen = torch.cat([before, apart.reshape(n, copies * width, copies * width)], dim=2)
        scores = torch.zeros(seen.shape, dtype=dtype, device=own.device)
        return scores.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def lay_out(trees: Sequence[Tree], pad_id: int, device: torch.device) -> Tails:
    """Return trees as one batch."""
    width = max(len(tree.tokens) for tree in trees)
    sees = np.tile(np.eye(width, dtype=bool), (len(trees), 1, 1))
    for i, tree in enumerate(trees):
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                sees[i, node] |= sees[i, parent]
    reads = np.zeros((len(trees), width), dtype=bool)
    for i, tree in enumerate(trees):
        reads[i, tree.reads] = True
    seen = torch.from_numpy(sees).to(device)
    starts = torch.tensor([len(tree.prefix) for tree in trees], device=device)
    return Tails(
        trees=tuple(trees),
        before=pad([tree.prefix for tree in trees], "left", pad_id, device),
        input_ids=pad([tree.tokens for tree in trees], "right", pad_id, device).input_ids,
        positions=starts[:, None] + seen.sum(2) - 1,
        sees=seen,
        reads=torch.from_numpy(reads).to(device),
    )


def batches(trees: Sequence[Tree], nodes: int, tokens: int) -> list[list[Tree]]:
    """Group trees of like size, so that little is padding.

    A batch has at most `nodes` nodes, and `tokens` tokens with the prefixes; or it is one tree.
    """
    order = sorted(trees, key=lambda tree: (len(tree.tokens), len(tree.prefix)))
    found: list[list[Tree]] = []
    longest = 0
    for tree in order:
        width = len(tree.tokens)
        longest = max(longest, len(tree.prefix))
        count = len(found[-1]) + 1 if found else 0
        if not found or count * width > nodes or count * (width + longest) > tokens:
            found.append([])
            longest = len(tree.prefix)
        found[-1].append(tree)
    return found
