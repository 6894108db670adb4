"""Predicting usefulness from features: planted laws are learnt, and noise is called noise."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from trimtab.cli.suggest import said
from trimtab.errors import SelectionError
from trimtab.selector.intervals import Estimate
from trimtab.selector.learned.model import fit, ranks
from trimtab.selector.learned.validation import (
    DRAWS,
    Judged,
    Training,
    judge,
    predictions,
    predictions_across,
    rank_correlation,
    top_against_random,
)
from trimtab.selector.learned.views import COSINE, STATISTICS, together, view, view_against
from trimtab.selector.parts import Parts

NewParts = Callable[..., Parts]
GRADIENT = torch.randn(12, generator=torch.Generator().manual_seed(7))


def training(parts: Parts, usefulness: Tensor, group_size: int = 1) -> Training:
    groups = tuple(f"g{i // group_size}" for i in range(parts.n_samples))
    return Training(parts, groups, usefulness.double().numpy())


def by_influence(parts: Parts) -> Training:
    return training(parts, parts.residual @ GRADIENT)


def by_nothing(parts: Parts, seed: int = 0) -> Training:
    generator = torch.Generator().manual_seed(seed)
    return training(parts, torch.randn(parts.n_samples, generator=generator))


def by_cosine(parts: Parts) -> Training:
    return training(parts, torch.cosine_similarity(parts.residual, parts.residual.mean(0)[None]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40))
def test_ranks_are_centred_and_keep_the_order(values: list[float]) -> None:
    found = ranks(np.array(values))
    assert found.mean() == pytest.approx(0.0, abs=1e-9)
    assert -0.5 < found.min() <= found.max() < 0.5
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert (ranks(-np.array(values)) == pytest.approx(-found)) and len(found) == len(values)


def test_what_is_seen_of_a_pair_does_not_depend_on_its_own_group(new_parts: NewParts) -> None:
    parts = new_parts(0, 30)
    groups = [f"g{i // 3}" for i in range(30)]
    assert parts.features is not None
    changed = Parts(parts.sample_ids, parts.residual.clone(), parts.features, parts.decoder)
    changed.residual[1] *= -5  # of the first group
    before, after = view(parts, groups), view(changed, groups)
    np.testing.assert_allclose(before.statistics[0], after.statistics[0])
    assert abs(before.statistics[5, COSINE] - after.statistics[5, COSINE]) > 1e-6


def test_a_pair_is_seen_alike_whether_it_is_learnt_from_or_new(new_parts: NewParts) -> None:
    parts = new_parts(1, 20)
    alone = [str(i) for i in range(20)]
    others = parts.rows(range(1, 20))
    np.testing.assert_allclose(
        view(parts, alone).statistics[0],
        view_against(parts.rows([0]), others).statistics[0],
        atol=1e-5,
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 100), factor=st.sampled_from([0.01, 3.0, 500.0]))
def test_statistics_mean_the_same_at_every_scale(
    new_parts: NewParts, seed: int, factor: float
) -> None:
    parts = new_parts(seed, 12)
    assert parts.features is not None and parts.decoder is not None
    scaled = Parts(
        parts.sample_ids, factor * parts.residual, parts.features, factor * parts.decoder
    )
    groups = [str(i) for i in range(12)]
    before, after = view(parts, groups), view(scaled, groups)
    np.testing.assert_allclose(after.statistics, before.statistics, atol=1e-3)
    np.testing.assert_allclose(after.features, before.features, atol=1e-4)
    assert before.statistics.shape == (12, len(STATISTICS))


def test_a_prediction_is_the_sum_of_what_it_is_explained_by(new_parts: NewParts) -> None:
    parts = new_parts(2, 25)
    seen = view(parts, [str(i) for i in range(25)])
    model = fit(seen, ranks((parts.residual @ GRADIENT).double().numpy()))
    statistics, features = model.contributions(seen)
    total = model.intercept + statistics.sum(1) + features.sum(1)
    np.testing.assert_allclose(model.predict(seen), total, atol=1e-9)
    np.testing.assert_allclose(model.predict(seen.take([3, 4])), total[3:5], atol=1e-9)


def test_the_cosine_alone_looks_at_nothing_else(new_parts: NewParts) -> None:
    seen = view(new_parts(3, 25), [str(i) for i in range(25)])
    model = fit(seen, ranks(np.arange(25.0)), "cosine")
    statistics, features = model.contributions(seen)
    assert not features.any()
    assert not np.delete(statistics, COSINE, axis=1).any()


def test_a_law_is_learnt_and_predicts_pairs_that_were_not_seen(new_parts: NewParts) -> None:
    learnt = by_influence(new_parts(4, 150))
    found = judge(learnt, "pair")
    assert found.way == "learned"
    assert found.trusted == found.learned
    assert found.learned.low is not None and found.learned.low > 0.6


@pytest.mark.parametrize("group_size", [1, 5])
def test_where_there_is_nothing_to_learn_the_correlation_is_about_zero(
    new_parts: NewParts, group_size: int
) -> None:
    values = []
    for seed in range(12):
        parts = new_parts(seed, 60)
        noise = torch.randn(60, generator=torch.Generator().manual_seed(seed + 99))
        one = training(parts, noise, group_size)
        found = rank_correlation(predictions(one, "learned"), one.usefulness, one.groups)
        assert found.value is not None
        values.append(found.value)
    assert abs(np.mean(values)) < 0.12


def test_where_the_cosine_says_it_all_it_is_what_is_used(new_parts: NewParts) -> None:
    found = judge(by_cosine(new_parts(5, 60)), "pair")
    assert found.cosine is not None and found.cosine.value is not None
    assert found.cosine.value > 0.9
    assert found.way == "cosine"
    assert found.trusted == found.cosine


def test_of_prompts_there_is_no_cosine(new_parts: NewParts) -> None:
    found = judge(by_nothing(new_parts(5, 40)), "prompt")
    assert (found.cosine, found.way) == (None, "learned")


def test_no_model_sees_the_group_that_it_predicts(new_parts: NewParts) -> None:
    """A group of copies with wild usefulness cannot teach its own prediction."""
    parts = new_parts(6, 40)
    one = training(parts, parts.residual @ GRADIENT, group_size=4)
    changed = one.usefulness.copy()
    changed[:4] = 1e6
    after = Training(parts, one.groups, changed)
    np.testing.assert_allclose(
        predictions(one, "cosine")[:4], predictions(after, "cosine")[:4], atol=1e-9
    )


def correlations(behaviors: dict[str, Training]) -> dict[str, Estimate]:
    """Of what models that never saw a behaviour predict of it."""
    return {
        name: rank_correlation(predicted, behaviors[name].usefulness, behaviors[name].groups)
        for name, predicted in predictions_across(behaviors, "learned").items()
    }


def test_a_law_of_statistics_carries_over_to_a_behaviour_never_seen(new_parts: NewParts) -> None:
    behaviors = {f"b{seed}": by_cosine(new_parts(seed, 40)) for seed in range(4)}
    found = correlations(behaviors)
    assert set(found) == set(behaviors)
    for estimate in found.values():
        assert estimate.low is not None and estimate.low > 0.3
    nothing = correlations({n: by_nothing(t.parts, 3) for n, t in behaviors.items()})
    assert abs(np.mean([e.value for e in nothing.values() if e.value is not None])) < 0.25


def test_too_little_to_learn_from_is_said(new_parts: NewParts) -> None:
    with pytest.raises(SelectionError, match="10 pairs of 2 groups"):
        predictions(by_nothing(new_parts(0, 8)), "learned")
    with pytest.raises(SelectionError, match="two behaviours"):
        predictions_across({"one": by_nothing(new_parts(0, 20))}, "learned")


def test_a_rank_correlation_has_an_interval_over_groups() -> None:
    truth = np.arange(40.0)
    groups = [str(i // 2) for i in range(40)]
    exact = rank_correlation(truth**3, truth, groups)
    assert [exact.value, exact.low, exact.high] == [pytest.approx(1.0)] * 3
    assert rank_correlation(-truth, truth, groups).value == pytest.approx(-1.0)
    noise = rank_correlation(np.random.default_rng(0).normal(size=40), truth, groups)
    assert noise.low is not None and noise.low < 0 < (noise.high or 0)
    assert rank_correlation(truth * 0, truth, groups).value is None
    assert rank_correlation(truth, truth, ["one"] * 40).low is None


def test_the_best_pairs_make_a_vector_that_beats_random_ones(new_parts: NewParts) -> None:
    parts = new_parts(8, 60)
    asked: list[Tensor] = []

    def effects(direction: Tensor) -> NDArray[np.float64]:
        asked.append(direction)
        along = float(direction @ GRADIENT / direction.norm())
        return along + 0.01 * np.random.default_rng(0).normal(size=20)

    usefulness = (parts.residual @ GRADIENT / parts.residual.norm(dim=1)).double().numpy()
    groups = [str(i) for i in range(20)]
    found = top_against_random(parts, usefulness, 8, effects, groups)
    assert found.beyond.low is not None and found.beyond.low > 0
    assert len(asked) == 1 + DRAWS
    best = np.argsort(-usefulness)[:8].tolist()
    torch.testing.assert_close(asked[0], parts.residual[best].mean(0))
    assert found.to_json()["k"] == 8


def test_a_correlation_that_may_be_chance_is_called_so() -> None:
    chance = Judged(40, Estimate(0.1, -0.2, 0.4), Estimate(0.05, -0.2, 0.3), "learned")
    assert "may be chance" in said("pair", chance)
    clear = Judged(40, Estimate(0.1, -0.2, 0.4), Estimate(0.5, 0.2, 0.7), "cosine")
    assert "chance" not in said("pair", clear)
    assert "0.50 [0.20, 0.70]" in said("pair", clear)


def test_views_are_strung_together(new_parts: NewParts) -> None:
    one, two = (view(new_parts(seed, 5), list("abcde")) for seed in (0, 1))
    both = together([one, two])
    assert len(both) == 10
    np.testing.assert_array_equal(both.features[5:], two.features)


def test_without_an_sae_the_difference_itself_is_learnt_from(dense_parts: Parts) -> None:
    seen = view(dense_parts, [str(i) for i in range(30)])
    assert seen.features.shape == (30, 12)
    assert not seen.statistics[:, 2:].any()
    assert judge(by_influence(dense_parts), "pair").learned.value is not None
