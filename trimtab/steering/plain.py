"""Plain forward passes over whole rows: what the fast path must agree with, and its stand-in."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trimtab.model.batch import pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit as edit_at
from trimtab.model.language_model import LanguageModel
from trimtab.steering.apply import Edit
from trimtab.steering.tails import Tails


def whole_passes(
    model: LanguageModel, hook_point: HookPoint, tails: Tails, changes: Sequence[Edit | None]
) -> Tensor:
    """Return final states `(changes, n, d_model)` of the `n` wanted nodes, a change at a time.

    Every row is run whole, without a cache, its tail steered.
    """
    rows: list[list[int]] = []
    places: list[tuple[int, int, int, int]] = []
    for number, tree in enumerate(tails.trees):
        for path in tree.paths:
            start = len(tree.prefix)
            places += [(number, node, len(rows), start + i) for i, node in enumerate(path)]
            rows.append([*tree.prefix, *(tree.tokens[node] for node in path)])
    first = {(tree, node): place for tree, node, *place in reversed(places)}
    tree_of, node, row, position = torch.tensor(places).T
    (one_tree, one_node), (one_row, one_position) = (
        torch.tensor(list(some)).T for some in (first.keys(), first.values())
    )
    batch = pad(rows, "right", model.pad_id, model.device)

    def as_trees(x: Tensor) -> Tensor:
        """Gather nodes from the first row that has each: a second would double its gradient."""
        blank = x.new_zeros(*tails.reads.shape, x.shape[-1])
        return blank.index_put((one_tree, one_node), x[one_row, one_position])

    states = []
    for change in changes:

        def on_tails(x: Tensor, change: Edit | None = change) -> Tensor:
            trees = as_trees(x)
            steered = trees if change is None else change(trees)
            return x.index_put((row, position), steered[tree_of, node])

        with edit_at(model, hook_point, on_tails):
            final = model.module.base_model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
            ).last_hidden_state
        states.append(as_trees(final)[tails.reads.to(final.device)])
    return torch.stack(states)
