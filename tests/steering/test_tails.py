"""Trees of tails: rows can be read back from them, and a node sees its own row only."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from trimtab.steering.tails import Tails, Tree, batches, lay_out, plant

CPU = torch.device("cpu")
tokens = st.lists(st.integers(3, 5), min_size=1, max_size=6)  # few words, so that rows share some
row_groups = st.lists(
    st.tuples(st.lists(st.integers(3, 5), max_size=4), st.lists(tokens, min_size=1, max_size=3)),
    min_size=1,
    max_size=4,
)
Groups = list[tuple[list[int], list[list[int]]]]


def grow(groups: Groups, shared: bool = True) -> tuple[list[list[int]], list[int], list[Tree]]:
    rows = [prefix + tail for prefix, tails in groups for tail in tails]
    starts = [len(prefix) for prefix, tails in groups for _ in tails]
    owners = [i for i, (_, tails) in enumerate(groups) for _ in tails]
    return rows, starts, plant(rows, starts, starts, owners if shared else range(len(rows)))


def laid(groups: Groups) -> Tails:
    return lay_out(grow(groups)[2], 9, CPU)


@given(row_groups)
def test_rows_can_be_read_back_from_their_trees(groups: Groups) -> None:
    rows, _, trees = grow(groups)
    found = [
        [*tree.prefix, *(tree.tokens[node] for node in path)]
        for tree in trees
        for path in tree.paths
    ]
    assert found == rows


@given(row_groups)
def test_a_group_stands_in_one_tree_with_a_node_for_each_of_its_beginnings(groups: Groups) -> None:
    _, _, trees = grow(groups)
    assert len(trees) == len(groups)
    for tree, (_, tails) in zip(trees, groups, strict=True):
        beginnings = {tuple(tail[:end]) for tail in tails for end in range(1, len(tail) + 1)}
        assert len(tree.tokens) == len(beginnings)


@given(row_groups)
def test_rows_of_unlike_groups_share_nothing(groups: Groups) -> None:
    rows, starts, trees = grow(groups, shared=False)
    assert [len(tree.tokens) for tree in trees] == [
        len(row) - start for row, start in zip(rows, starts, strict=True)
    ]


@given(row_groups)
def test_a_node_sees_what_comes_before_it_in_its_row_and_itself(groups: Groups) -> None:
    tails = laid(groups)
    for i, tree in enumerate(tails.trees):
        for path in tree.paths:
            for at, node in enumerate(path):
                assert set(torch.nonzero(tails.sees[i, node])[:, 0].tolist()) == set(path[: at + 1])
                assert int(tails.positions[i, node]) == len(tree.prefix) + at


@given(row_groups, st.integers(1, 3), st.one_of(st.none(), st.integers(1, 5)))
def test_the_mask_shows_a_copy_the_prefix_and_itself_within_the_window(
    groups: Groups, copies: int, window: int | None
) -> None:
    tails = laid(groups)
    width, longest = tails.width, max(len(tree.prefix) for tree in tails.trees)
    mask = tails.mask(copies, window, torch.float32)
    assert mask.shape == (len(tails.trees), 1, copies * width, longest + copies * width)
    for i, tree in enumerate(tails.trees):
        pads = longest - len(tree.prefix)
        for copy in range(copies):
            for path in tree.paths:
                for at, node in enumerate(path):
                    row = [*range(pads, longest)]
                    row += [longest + copy * width + n for n in path[: at + 1]]
                    expected = set(row if window is None else row[-window:])
                    seen = torch.nonzero(mask[i, 0, copy * width + node] == 0)[:, 0]
                    assert set(seen.tolist()) == expected


@given(row_groups, st.integers(1, 2))
def test_every_query_of_the_mask_sees_something(groups: Groups, copies: int) -> None:
    mask = laid(groups).mask(copies, 1, torch.float32)
    assert ((mask == 0).sum(-1) >= 1).all()  # a softmax over nothing would be NaN


@given(row_groups)
def test_wanted_states_are_numbered_row_by_row(groups: Groups) -> None:
    tails = laid(groups)
    ids, places = tails.wanted()
    assert sorted(ids.tolist()) == list(range(sum(len(t) for _, tails in groups for t in tails)))
    nodes = torch.nonzero(tails.reads)[places]
    expected = [(i, node) for i, tree in enumerate(tails.trees) for p in tree.paths for node in p]
    assert [tuple(pair) for pair in nodes.tolist()] == expected


@given(row_groups, st.integers(1, 20), st.integers(1, 60))
def test_batches_hold_every_tree_once_and_keep_their_bounds(
    groups: Groups, nodes: int, tokens: int
) -> None:
    _, _, trees = grow(groups)
    found = batches(trees, nodes, tokens)
    assert sorted(id(tree) for batch in found for tree in batch) == sorted(map(id, trees))
    for batch in found:
        width = max(len(tree.tokens) for tree in batch)
        longest = max(len(tree.prefix) for tree in batch)
        fits = len(batch) * width <= nodes and len(batch) * (longest + width) <= tokens
        assert fits or len(batch) == 1


@given(row_groups)
def test_a_part_of_a_batch_is_a_batch(groups: Groups) -> None:
    tails = laid(groups)
    part = tails.part(slice(1, None))
    assert part.trees == tails.trees[1:]
    if part.trees:
        ids, places = part.wanted()
        assert len(ids) == len(places)
        assert torch.equal(
            part.mask(2, None, torch.float32), tails.mask(2, None, torch.float32)[1:]
        )
