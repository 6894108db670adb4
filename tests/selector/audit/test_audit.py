"""Audits judge attributions by measured effects, and find what was spoilt on purpose."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.selector.attribution import Game, Meter, attribute
from trimtab.selector.audit import antisteering, poison
from trimtab.selector.audit.brittleness import drop_curve
from trimtab.selector.audit.lds import lds, predicted
from trimtab.selector.audit.robust import geometric_median, trimmed_mean
from trimtab.selector.audit.subsets import draw_subsets, measured_effects
from trimtab.selector.parts import Parts
from trimtab.selector.ranks import ceiling, spearman

NewParts = Callable[..., Parts]
EIGHT = [str(i) for i in range(8)]


def additive(seed: int = 0, n_pairs: int = 8) -> Meter:
    """Every pair's effect is linear in the vector, along directions that have much in common."""
    generator = torch.Generator().manual_seed(seed)
    along = torch.randn(12, generator=generator) + 0.1 * torch.randn(
        n_pairs, 12, generator=generator
    )
    return Meter(lambda vector: (along.double() @ vector.double()).numpy(), lambda _: along.mean(0))


@settings(max_examples=30, deadline=None)
@given(k=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_subsets_have_their_size_and_repeat_by_seed(k: int, share: float, seed: int) -> None:
    size = max(1, round(share * k))
    masks = draw_subsets(k, size, 7, seed)
    assert masks.shape == (7, k)
    assert (masks.sum(1) == size).all()
    assert (masks == draw_subsets(k, size, 7, seed)).all()


def test_a_subset_larger_than_the_whole_is_refused() -> None:
    with pytest.raises(SelectionError, match="9 out of 8"):
        draw_subsets(8, 9, 1, 0)


@pytest.mark.parametrize("size", [4, 15])
def test_the_score_is_one_for_an_additive_truth(parts: Parts, size: int) -> None:
    game = Game(parts, additive())
    masks = draw_subsets(30, size, 60, seed=1)
    effects = measured_effects(game.samples.vectors(masks), game.meter.effects)
    for name in ("first_order", "jackknife", "integrated", "leave_one_out"):
        scores = attribute(name, game).scores
        found = lds(predicted(scores, masks, averaged=True), effects)
        assert found.value == pytest.approx(1.0, abs=1e-3)
        assert found.low is not None and found.low > 0.99
    chance = lds(predicted(attribute("random", game).scores, masks, averaged=True), effects)
    assert chance.value is not None and abs(chance.value) < 0.4


def test_sums_and_means_rank_subsets_of_one_size_alike() -> None:
    masks = draw_subsets(20, 10, 30, seed=0)
    scores = torch.randn(20, generator=torch.Generator().manual_seed(0))
    sums, means = (predicted(scores, masks, averaged=averaged) for averaged in (False, True))
    np.testing.assert_allclose(sums, 10 * means)


def test_a_score_without_a_ranking_is_none_and_says_why() -> None:
    effects = np.random.default_rng(0).normal(size=(20, 4))
    constant = lds(np.zeros(20), effects)
    assert constant.value is None and constant.reason is not None
    few = lds(np.arange(5.0), effects[:5])
    assert few.value is None and few.reason is not None and "10 vectors" in few.reason


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=5, max_size=20), st.integers(0, 99))
def test_rank_correlation_is_that_of_scipy(values: list[int], seed: int) -> None:
    from scipy.stats import spearmanr

    other = np.random.default_rng(seed).permutation(len(values)).astype(float)
    if len(set(values)) > 1:
        expected = spearmanr(values, other).statistic
        assert spearman(np.array(values, float), other) == pytest.approx(expected, abs=1e-9)


def test_the_ceiling_is_one_where_pairs_agree_and_nothing_where_they_are_noise() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(60, 1))
    agreeing = ceiling(truth + 1e-6 * rng.normal(size=(60, 8)), EIGHT)
    assert agreeing.value == pytest.approx(1.0, abs=1e-3)
    noise = ceiling(rng.normal(size=(60, 8)), EIGHT)
    assert noise.value is not None and noise.value < 0.4
    half = ceiling(truth + rng.normal(size=(60, 8)), EIGHT)
    assert half.value is not None and half.low is not None and half.high is not None
    assert half.low < half.value < half.high
    assert half.value == pytest.approx(8 / 9, abs=0.1)  # signal 1, noise 1 / 8
    assert ceiling(truth, ["one"]).value is None


def test_a_ceiling_of_effects_that_are_all_the_same_is_none() -> None:
    found = ceiling(np.ones((12, 8)), EIGHT)
    assert found.value is None and found.reason is not None


def test_dropping_the_top_costs_more_than_dropping_at_random(parts: Parts) -> None:
    game = Game(parts, additive())
    scores = attribute("leave_one_out", game).scores
    draws = [
        torch.randperm(30, generator=torch.Generator().manual_seed(i)).float() for i in range(3)
    ]
    top = drop_curve(game, [scores], [0, 5, 15], EIGHT)
    random = drop_curve(game, draws, [0, 5, 15], EIGHT)
    assert [point.dropped for point in top] == [0, 5, 15]
    values = [point.effect.value for point in top]
    assert all(v is not None for v in values)
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    assert top[0].effect.value == pytest.approx(random[0].effect.value)
    for worse, chance in zip(top[1:], random[1:], strict=True):
        assert worse.effect.value is not None and chance.effect.value is not None
        assert worse.effect.value < chance.effect.value


def agreeing_parts(new_parts: NewParts, seed: int) -> Parts:
    """Pairs that mostly say the same, as clean ones do."""
    parts = new_parts(seed)
    common = torch.randn(12, generator=torch.Generator().manual_seed(seed))
    return Parts(parts.sample_ids, common + 0.05 * parts.residual)


@pytest.mark.parametrize("name", ["leave_one_out", "cosine", "jackknife"])
def test_flipped_pairs_are_found_where_clean_ones_agree(new_parts: NewParts, name: str) -> None:
    clean = agreeing_parts(new_parts, 4)
    along = clean.residual.mean(0)
    meter = Meter(lambda vector: np.array([float(along @ vector)]), lambda _: along)
    victims = poison.draw_victims(30, 0.2, seed=1)
    spoilt = poison.flip(clean, victims)
    assert poison.recall(attribute(name, Game(spoilt, meter)).scores, victims) == 1.0


@settings(max_examples=20, deadline=None)
@given(share=st.sampled_from([0.05, 0.1, 0.2]), seed=st.integers(0, 99))
def test_flipping_twice_or_dropping_the_victims_undoes_it(share: float, seed: int) -> None:
    rows = torch.randn(40, 12, generator=torch.Generator().manual_seed(seed))
    clean = Parts(tuple(map(str, range(40))), rows, rows[:, :5], rows[:5])
    victims = poison.draw_victims(40, share, seed)
    assert len(victims) == round(share * 40)
    spoilt = poison.flip(clean, victims)
    assert torch.equal(poison.flip(spoilt, victims).residual, rows)
    assert spoilt.features is not None
    assert torch.equal(spoilt.features[victims], -rows[victims, :5])
    torch.testing.assert_close(poison.without(spoilt, victims), poison.without(clean, victims))


def test_shuffling_completions_leaves_the_mean_difference_as_it_was(parts: Parts) -> None:
    negative = torch.randn(30, 12, generator=torch.Generator().manual_seed(2))
    victims = poison.draw_victims(30, 0.2, seed=0)
    spoilt = poison.shuffle(parts, negative, victims)
    torch.testing.assert_close(spoilt.residual.mean(0), parts.residual.mean(0))
    changed = (spoilt.residual != parts.residual).any(1).nonzero().flatten()
    assert changed.tolist() == victims.tolist()
    positive = parts.residual + negative
    own = torch.cdist(positive[victims] - spoilt.residual[victims], negative[victims])
    assert sorted(own.argmin(1).tolist()) == list(range(len(victims)))
    with pytest.raises(SelectionError, match="at least two pairs"):
        poison.shuffle(parts, negative, victims[:1])


@pytest.mark.parametrize("share", [0.0, 0.5, -1.0])
def test_a_share_that_is_no_poison_is_refused(share: float) -> None:
    with pytest.raises(SelectionError, match=r"between 0 and 0\.5"):
        poison.draw_victims(10, share, 0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), shift=st.floats(-5, 5), factor=st.floats(0.1, 5))
def test_robust_means_move_and_scale_with_their_rows(
    seed: int, shift: float, factor: float
) -> None:
    rows = torch.randn(15, 4, generator=torch.Generator().manual_seed(seed))
    for centre in (geometric_median, trimmed_mean):
        expected = factor * centre(rows) + shift
        torch.testing.assert_close(centre(factor * rows + shift), expected, atol=1e-4, rtol=1e-4)


def test_robust_means_stay_where_most_rows_are() -> None:
    rows = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    rows[:3] = 1000.0
    for centre in (geometric_median, trimmed_mean):
        assert centre(rows).norm() < 2
    assert rows.mean(0).norm() > 100


def test_the_geometric_median_has_the_least_sum_of_distances() -> None:
    rows = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    best = geometric_median(rows)
    total = (rows - best).norm(dim=1).sum()
    for i in range(20):
        other = best + 0.05 * torch.randn(3, generator=torch.Generator().manual_seed(i))
        assert (rows - other).norm(dim=1).sum() >= total
    assert torch.equal(geometric_median(rows[:1]), rows[0])
    assert torch.equal(geometric_median(rows[:1].expand(5, 3)), rows[0])
    assert torch.equal(trimmed_mean(rows[:1]), rows[0])


def test_a_slope_is_what_the_vector_does_per_multiplier() -> None:
    along = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])

    def effects(vector: Tensor) -> np.ndarray:
        return (along @ vector).numpy().astype(float)

    found = antisteering.slopes(effects, torch.tensor([3.0, 1.0]))
    assert found.tolist() == [3.0, -6.0, 1.0]
    assert antisteering.wrong_way(found, ["a", "b", "c"]).value == pytest.approx(1 / 3)


def test_a_remedys_weights_sum_to_one_and_spare_the_good() -> None:
    scores = torch.linspace(-1, 1, 20)
    for name, weights in antisteering.remedies(scores).items():
        assert float(weights.sum()) == pytest.approx(1.0)
        assert (weights >= 0).all()
        assert (weights.diff() >= -1e-12).all(), name
    assert antisteering.remedies(scores)["drop 10%"].count_nonzero() == 18
    assert all(w.isfinite().all() for w in antisteering.remedies(torch.ones(4)).values())


def test_the_remedy_that_leaves_fewest_wrong_ways_is_chosen_if_it_keeps_the_effect() -> None:
    full = np.array([1.0, 1.0, 1.0, -0.2])
    gentle = np.array([1.0, 0.9, 1.0, 0.1])
    timid = np.array([0.1, 0.1, 0.1, 0.1])
    worse = np.array([3.0, 3.0, -0.1, -0.1])
    chosen = antisteering.choose_remedy(full, {"timid": timid, "gentle": gentle, "worse": worse})
    assert chosen == "gentle"
    nothing = antisteering.choose_remedy(full, {"timid": timid, "worse": worse})
    assert nothing == "none"
