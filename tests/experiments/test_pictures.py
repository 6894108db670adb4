"""A picture comes with its number, and a number with what it is where labels say nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from experiments.laboratory import Laboratory
from experiments.pictures import steering
from experiments.pictures.chance import against_chance
from experiments.pictures.mapper import Cloud, Graph
from experiments.pictures.planes import components, shares
from experiments.pictures.points import Points, dealt_behaviors, dealt_influence, dealt_sides
from experiments.pictures.probe import side_auc
from experiments.pictures.readings import EVERY, of_graph, of_places, purity
from experiments.pictures.steering import HeldOut, means_at
from experiments.pictures.study import Sizes, study
from experiments.pictures.table import draw
from experiments.pictures.transport import distances
from trimtab.errors import SelectionError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.steering.vector import SteeringVector

Floats = NDArray[np.float64]

SEEDS = st.integers(0, 2**32 - 1)
SMALL = Sizes(
    components=6,
    perplexity=5.0,
    cubes=2,
    covers=(2,),
    quantile=1.0,
    shuffles=4,
    ablated=2,
    draws=2,
)
RING = np.array([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1.0]])
TWO = ("refusal", "moods")  # pairs, and unpaired texts


def test_a_study_measures_draws_and_measures_nothing_twice(
    laboratory: Callable[[str, Any], Laboratory], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fewer() -> Laboratory:
        whole = laboratory("pictures", SMALL)
        listed = {name: whole.config.behaviors[name] for name in TWO}
        return replace(whole, config=replace(whole.config, behaviors=listed))

    first = fewer()
    tables = study(first)
    assert first.failed == {}
    first.write(tables)
    page = draw(first.out)
    assert "| residual | PCA | side | silhouette |" in page
    assert "| refusal | ablated |" in page
    assert "clear of its control" in (first.out / "steering.svg").read_text()
    for name in ("pca", "tsne", "mapper"):  # too few shuffles for anything else
        assert "not beyond chance, p = 0.20" in (first.out / f"{name}.svg").read_text()
    first.write(tables | {"edges": []})  # as of a graph in pieces
    assert draw(first.out) == page

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("trimtab.selector.scales.calibrate", never)
    monkeypatch.setattr(steering, "means_at", never)
    monkeypatch.setattr("experiments.pictures.transport.distances", never)
    monkeypatch.setattr("experiments.pictures.space.tsne", never)
    again = fewer()
    assert study(again) == tables
    assert again.failed == {}


def test_a_later_layer_that_is_not_beyond_the_sae_is_refused(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    for depth in (0.25, 1.0):
        with pytest.raises(SelectionError, match=r"sizes\.pictures: depth"):
            study(laboratory("pictures", replace(SMALL, depth=depth)))


def points(groups: int, each: int = 2) -> Points:
    """Two behaviours of as many groups, `each` pairs in every group; influence is of half."""
    n = 2 * groups * each  # pairs
    index = np.arange(n).repeat(2)
    group = index // each
    influence = np.where(group % 2 == 0, group / group.max(), np.nan)
    return Points(
        np.where(group < groups, "one", "other"),
        index.astype(str),
        group.astype(str),
        np.tile([True, False], n),
        influence,
    )


def one_a_group(made: Points, labels: NDArray[Any]) -> bool:
    return all(len(set(labels[made.group == name])) == 1 for name in set(made.group))


@given(SEEDS)
def test_labels_are_dealt_to_whole_groups(seed: int) -> None:
    made, rng = points(6), np.random.default_rng(seed)
    behaviors = dealt_behaviors(made, rng)
    assert sorted(behaviors) == sorted(made.behavior)
    assert one_a_group(made, behaviors)
    sides = dealt_sides(made, rng)
    assert (sides[::2] != sides[1::2]).all()  # a pair keeps both sides
    assert one_a_group(made, sides == made.positive)
    influence = dealt_influence(made, rng)
    known = ~np.isnan(made.influence)
    assert (np.isnan(influence) != known).all()
    assert one_a_group(made.rows(known), influence[known])
    for name in made.behaviors:
        here = known & (made.behavior == name)
        assert sorted(influence[here]) == sorted(made.influence[here])


@given(SEEDS)
def test_sides_of_unpaired_texts_are_dealt_among_their_behavior(seed: int) -> None:
    made = points(6)
    first = made.behavior == "one"
    sample = np.where(first, np.arange(len(first)).astype("<U9"), made.sample)
    unpaired = replace(made, sample=sample)
    sides = dealt_sides(unpaired, np.random.default_rng(seed))
    assert sides[first].sum() == made.positive[first].sum()
    assert (sides[~first][::2] != sides[~first][1::2]).all()


@given(st.floats(-1, 1), st.lists(st.floats(-1, 1), min_size=1))
def test_p_counts_the_number_itself(value: float, dealt: list[float]) -> None:
    p = against_chance(value, dealt)["p"]
    assert 1 / (1 + len(dealt)) <= p <= 1
    assert against_chance(2.0, dealt)["p"] == pytest.approx(1 / (1 + len(dealt)))
    assert against_chance(min(dealt), dealt)["p"] == 1


def test_numbers_know_labels_that_decide_where_points_lie() -> None:
    made, rng = points(16), np.random.default_rng(0)
    where = rng.standard_normal((len(made.group), 4))
    where[:, 0] += 8 * (made.behavior == "one")
    where[:, 1] += 8 * made.positive
    where[:, 2] += 20 * np.nan_to_num(made.influence)
    everyone = np.ones(len(where), dtype=bool)
    graph = Cloud(components(where), 4, 0.5, 0.9, everyone).graph(everyone)
    for read in (of_places(where, made, 19, 0), of_graph(graph, made, 19, 0)):
        found = {row["colour"]: row for row in read if row["behavior"] == EVERY}
        assert set(found) == {"behaviour", "side", "influence"}
        assert all(row["beyond_chance"] for row in found.values())


def test_chance_alone_is_seldom_called_more() -> None:
    made, called = points(8), 0
    for seed in range(20):
        where = np.random.default_rng(seed).standard_normal((len(made.group), 3))
        called += sum(row["beyond_chance"] for row in of_places(where, made, 19, seed))
    assert called <= 20 * 7 * 0.12  # of seven numbers each time, one in twenty


@given(SEEDS)
def test_shares_of_variance_are_those_of_principal_components(seed: int) -> None:
    for shape in ((12, 5), (5, 12)):
        rows = np.random.default_rng(seed).standard_normal(shape)
        ratios = PCA(svd_solver="full").fit(rows).explained_variance_ratio_
        np.testing.assert_allclose(shares(rows, (1, 3)), [ratios[0], ratios[:3].sum()])
        assert shares(rows, (9,)) == pytest.approx(1)


def made_of(edges: list[tuple[int, int]], place: Floats) -> Graph:
    return Graph([np.array([i]) for i in range(len(place))], np.array(edges), place)


@given(SEEDS, st.integers(3, 9))
def test_graphs_of_one_shape_in_two_places_differ_in_place_alone(seed: int, n: int) -> None:
    place = np.random.default_rng(seed).standard_normal((n, 3))
    chain = [(i, i + 1) for i in range(n - 1)]
    found = distances(made_of(chain, place), made_of(chain, np.add([3, 0, 4], place)))
    assert found["shape"] == pytest.approx(0, abs=1e-6)
    assert found["place"] == pytest.approx(5)


def test_a_ring_and_a_chain_in_one_place_differ_in_shape_alone() -> None:
    chain = [(i, i + 1) for i in range(7)]
    found = distances(made_of(chain, RING), made_of([*chain, (0, 7)], RING))
    assert found["place"] == pytest.approx(0, abs=1e-9)
    assert 0.05 < found["shape"] < 1


def test_a_mapper_graph_of_a_ring_closes_and_one_of_two_rings_has_two_pieces() -> None:
    angle = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    with_centre = np.concatenate([ring, [[0.2, 0.0]]])  # which lets clusters reach far
    one = Cloud(with_centre, 4, 0.5, 1.0, np.arange(81) >= 0).graph(np.arange(81) < 80)
    assert one.pieces == 1
    assert len(one.edges) >= len(one.members) > 3
    everyone = np.arange(160) >= 0
    two = np.concatenate([ring, np.add(9, ring)]) * np.linspace(1, 1.001, 160)[:, None]
    both = Cloud(two, 6, 0.5, 1.0, everyone).graph(everyone)
    assert both.pieces == 2
    assert both.apart.max() == 1
    assert (both.apart == both.apart.T).all()
    assert (np.diag(both.apart) == 0).all()
    assert both.weights.sum() == pytest.approx(1)


def test_clusters_reach_as_far_as_typical_points_are_apart() -> None:
    rows = np.random.default_rng(0).standard_normal((40, 5))
    twice = np.concatenate([rows, rows + 1e-3])
    first = np.arange(80) < 40
    assert len(Cloud(twice, 2, 0.5, 0.9, first).graph(first).members) > 3
    with pytest.raises(SelectionError, match="no square"):
        Cloud(twice, 2, 0.5, 0.1, ~first | first).graph(first)


def test_a_graph_without_nodes_is_refused_with_the_way_out() -> None:
    cloud = Cloud(RING, 4, 0.5, 0.9, np.arange(8) >= 0)
    with pytest.raises(SelectionError, match="its 2 points; take more samples"):
        cloud.graph(np.arange(8) < 2)


def test_purity_is_the_share_of_the_commonest_label_in_each_node() -> None:
    graph = Graph([np.arange(6), np.arange(4, 8)], np.array([[0, 1]]), np.zeros((2, 2)))
    assert purity(graph, np.array(list("aaaaabbc"))) == pytest.approx((5 + 2) / 10)


def test_a_probe_is_judged_on_groups_that_it_never_saw() -> None:
    rng = np.random.default_rng(0)
    groups = np.arange(80) // 4
    positive = np.arange(80) % 2 == 0
    noise = rng.standard_normal((80, 60))
    told = side_auc(noise + 3 * positive[:, None], positive, groups.astype(str), 0)
    assert told.value == pytest.approx(1)
    by_heart = noise + 50 * np.eye(60)[groups] * np.where(positive, 1, -1)[:, None]
    guessed = side_auc(by_heart, positive, groups.astype(str), 0)
    assert guessed.low is not None
    assert guessed.high is not None
    assert guessed.low < 0.5 < guessed.high
    assert "groups" in (side_auc(noise[:8], positive[:8], groups[:8].astype(str), 0).reason or "")


def test_steering_moves_completions_and_not_their_prompts(tiny_model: LanguageModel) -> None:
    point = HookPoint(1, "hook_resid_post")
    rows = [tuple(range(5, 5 + n)) for n in (9, 12, 7)]
    read = HeldOut(["a"] * 3, ["a"] * 3, np.array([True, False, True]), rows, [4, 6, 4])
    direction = torch.linspace(-1, 1, tiny_model.d_model)
    base = means_at(tiny_model, point, read, None)
    moved = means_at(tiny_model, point, read, SteeringVector(direction, point))
    np.testing.assert_allclose(moved - base, direction.expand(3, -1).numpy(), atol=1e-5)
    all_of_it = replace(read, starts=[0, 0, 0])
    prompts = means_at(tiny_model, point, all_of_it, None)
    assert not np.allclose(prompts, base)
