"""What every ranker promises, and what each of them is for."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.rankers import FEATURE_RANKERS, SAMPLE_RANKERS, Evidence
from trimtab.selector.rankers.contrast import effect_sizes
from trimtab.selector.rankers.pursuit import MAX_COEFFICIENT, matched, usable

SERIOUS_FEATURE_RANKERS = sorted(set(FEATURE_RANKERS) - {"random"})
SERIOUS_SAMPLE_RANKERS = sorted(set(SAMPLE_RANKERS) - {"random"})
NewParts = Callable[..., Parts]


def gradient(seed: int = 9, width: int = 12) -> Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))


def permuted(parts: Parts, samples: Tensor, features: Tensor) -> Parts:
    assert parts.features is not None
    assert parts.decoder is not None
    return Parts(
        tuple(parts.sample_ids[i] for i in samples.tolist()),
        parts.residual[samples],
        parts.features[samples][:, features],
        parts.decoder[features],
    )


def planted(new_parts: NewParts, seed: int = 3) -> tuple[Parts, Tensor]:
    """Parts in which feature 17 alone carries the gradient, in every sample alike."""
    parts = new_parts(seed)
    assert parts.features is not None
    assert parts.decoder is not None
    target = gradient()
    decoder = parts.decoder - (parts.decoder @ target)[:, None] * target / (target @ target)
    decoder[17] = target / target.norm() * 3
    features = 0.4 * (parts.features - parts.features.mean(0))
    features[:, 38:] = 0.0
    features[:, 17] = 2.0 + 0.1 * features[:, 0]
    return Parts(parts.sample_ids, features @ decoder, features, decoder), target


@pytest.mark.parametrize("name", sorted(SAMPLE_RANKERS))
@pytest.mark.parametrize("with_sae", [True, False])
def test_a_sample_ranker_gives_every_sample_a_finite_score(
    parts: Parts, dense_parts: Parts, name: str, with_sae: bool
) -> None:
    evidence = Evidence(parts if with_sae else dense_parts, gradient())
    scores = SAMPLE_RANKERS[name](evidence)
    assert scores.shape == (30,)
    assert scores.isfinite().all()
    assert len(set(scores.tolist())) > 20
    assert torch.equal(scores, SAMPLE_RANKERS[name](evidence))


@pytest.mark.parametrize("name", sorted(FEATURE_RANKERS))
def test_a_feature_ranker_gives_every_feature_a_score_and_silent_ones_none(
    parts: Parts, name: str
) -> None:
    evidence = Evidence(parts, gradient())
    scores = FEATURE_RANKERS[name](evidence)
    assert scores.shape == (40,)
    assert (scores.isfinite() | (scores == -torch.inf)).all()
    assert (scores[38:] == -torch.inf).all()
    assert scores.isfinite().any()
    assert torch.equal(scores, FEATURE_RANKERS[name](evidence))


@pytest.mark.parametrize("name", sorted(FEATURE_RANKERS))
@pytest.mark.parametrize("n", [1, 2])
def test_rankers_get_by_with_one_sample_or_two(new_parts: NewParts, name: str, n: int) -> None:
    few = new_parts(1, n)
    scores = FEATURE_RANKERS[name](Evidence(few, gradient()))
    assert (scores.isfinite() | (scores == -torch.inf)).all()
    if name in SAMPLE_RANKERS:
        assert SAMPLE_RANKERS[name](Evidence(few, gradient())).isfinite().all()


@pytest.mark.parametrize("name", sorted(FEATURE_RANKERS))
def test_where_nothing_fires_no_feature_is_offered(parts: Parts, name: str) -> None:
    assert parts.features is not None
    silent = Parts(
        parts.sample_ids, parts.residual, torch.zeros_like(parts.features), parts.decoder
    )
    assert (FEATURE_RANKERS[name](Evidence(silent, gradient())) == -torch.inf).all()


@pytest.mark.parametrize("name", SERIOUS_SAMPLE_RANKERS)
def test_sample_scores_move_with_their_samples(parts: Parts, name: str) -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(5))
    columns = torch.randperm(40, generator=torch.Generator().manual_seed(6))
    scores = SAMPLE_RANKERS[name](Evidence(parts, gradient()))
    moved = SAMPLE_RANKERS[name](Evidence(permuted(parts, order, columns), gradient()))
    torch.testing.assert_close(moved, scores[order], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SERIOUS_FEATURE_RANKERS)
def test_feature_scores_move_with_their_features(parts: Parts, name: str) -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(5))
    columns = torch.randperm(40, generator=torch.Generator().manual_seed(6))
    scores = FEATURE_RANKERS[name](Evidence(parts, gradient()))
    moved = FEATURE_RANKERS[name](Evidence(permuted(parts, order, columns), gradient()))
    torch.testing.assert_close(moved, scores[columns], atol=1e-4, rtol=1e-4)


def test_the_random_rankers_differ_by_seed_only(parts: Parts) -> None:
    for ranker in (SAMPLE_RANKERS["random"], FEATURE_RANKERS["random"]):
        first = ranker(Evidence(parts, gradient(1), seed=4))
        assert torch.equal(first, ranker(Evidence(parts, gradient(2), seed=4)))
        assert not torch.equal(first, ranker(Evidence(parts, gradient(1), seed=5)))


@pytest.mark.parametrize("name", ["influence", "pursuit", "contrast"])
def test_a_planted_feature_is_ranked_first(new_parts: NewParts, name: str) -> None:
    parts, target = planted(new_parts)
    scores = FEATURE_RANKERS[name](Evidence(parts, target))
    assert int(scores.argmax()) == 17


@pytest.mark.parametrize("name", ["cosine", "norm"])
def test_a_feature_that_makes_most_of_the_difference_is_ranked_first(
    new_parts: NewParts, name: str
) -> None:
    parts, _ = planted(new_parts)
    scores = FEATURE_RANKERS[name](Evidence(parts, gradient(2)))
    assert int(scores.argmax()) == 17


@pytest.mark.parametrize("name", ["influence", "pursuit"])
def test_a_feature_that_points_against_the_gradient_is_not_offered(
    new_parts: NewParts, name: str
) -> None:
    parts, target = planted(new_parts)
    scores = FEATURE_RANKERS[name](Evidence(parts, -target))
    assert scores[17] == -torch.inf


@pytest.mark.parametrize("name", ["influence", "cosine", "contrast"])
def test_samples_that_show_the_behaviour_stand_before_those_that_show_its_opposite(
    new_parts: NewParts, name: str
) -> None:
    parts, target = planted(new_parts)
    assert parts.features is not None
    assert parts.decoder is not None
    features = parts.features.clone()
    flipped = [4, 11, 25]
    features[flipped] *= -1
    poisoned = Parts(parts.sample_ids, features @ parts.decoder, features, parts.decoder)
    scores = SAMPLE_RANKERS[name](Evidence(poisoned, target))
    assert sorted(scores.argsort()[:3].tolist()) == flipped


def test_influence_does_not_grow_with_a_samples_length(parts: Parts) -> None:
    longer = Parts(parts.sample_ids, 7 * parts.residual)
    ranker = SAMPLE_RANKERS["influence"]
    torch.testing.assert_close(
        ranker(Evidence(longer, gradient())), ranker(Evidence(parts, gradient()))
    )


def test_an_effect_size_is_that_of_the_paired_differences(new_parts: NewParts) -> None:
    parts, target = planted(new_parts)
    assert parts.features is not None
    sizes = effect_sizes(Evidence(parts, target))
    spread = parts.features.std(0)
    floor = 0.1 * spread[spread > 0].median()
    torch.testing.assert_close(sizes[17], parts.features[:, 17].mean() / (spread[17] + floor))
    assert (sizes[38:] == 0).all()


def test_a_pursuit_takes_one_feature_after_the_other_and_none_twice(parts: Parts) -> None:
    scores = FEATURE_RANKERS["pursuit"](Evidence(parts, gradient()))
    taken = scores[scores > -torch.inf].sort(descending=True).values
    assert taken.tolist() == [64.0 - step for step in range(len(taken))]
    allowed = usable(parts)
    assert allowed[scores > -torch.inf].all()


def test_a_pursuit_finds_the_features_that_a_target_was_made_of(new_parts: NewParts) -> None:
    parts = new_parts(4)
    assert parts.features is not None
    assert parts.decoder is not None
    features = parts.features.abs()  # every difference is clear of zero
    wide = torch.randn(40, 200, generator=torch.Generator().manual_seed(1))
    target = 3 * wide[5] + 2 * wide[21] + wide[30]
    found = FEATURE_RANKERS["pursuit"](
        Evidence(Parts(parts.sample_ids, features @ wide, features, wide), target)
    )
    assert found.argsort(descending=True)[:3].tolist() == [5, 21, 30]


def test_a_difference_that_is_not_clear_of_zero_is_not_usable() -> None:
    features = torch.tensor([[1.0, 1.0, 0.0], [1.2, -1.0, 0.0], [0.8, 0.1, 0.0], [1.0, 0.2, 0.0]])
    parts = Parts(("a", "b", "c", "d"), torch.ones(4, 2), features, torch.ones(3, 2))
    assert usable(parts).tolist() == [True, False, False]
    assert usable(parts.rows([1])).tolist() == [True, True, False]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    samples=st.lists(st.integers(0, 29), min_size=1, unique=True).map(tuple),
    chosen=st.lists(st.integers(0, 39), min_size=1, max_size=15, unique=True).map(tuple),
)
@example(seed=37, samples=(10, 15, 8, 17), chosen=(1, 11, 2, 17))  # capped
def test_matching_keeps_signs_and_caps_and_brings_the_vector_nearer(
    new_parts: NewParts, seed: int, samples: tuple[int, ...], chosen: tuple[int, ...]
) -> None:
    parts, target = new_parts(seed), gradient(seed)
    choice = Choice(samples, chosen)
    found = matched(parts, choice, target)
    assert found.samples == samples
    assert found.features is not None
    assert set(found.features) <= set(chosen)
    if found == choice:
        return
    assert found.coefficients is not None
    assert all(0 < c <= MAX_COEFFICIENT for c in found.coefficients)
    before, after = (
        float(torch.cosine_similarity(compose(parts, c), target, dim=0)) for c in (choice, found)
    )
    if max(found.coefficients) < MAX_COEFFICIENT:  # a cap may turn the vector away again
        assert after > 0
        assert after >= before - 1e-5


def test_matching_a_target_that_no_feature_serves_changes_nothing(new_parts: NewParts) -> None:
    parts, target = planted(new_parts)
    choice = Choice((0, 1, 2), (17,))
    assert matched(parts, choice, -target) == choice


def test_no_coefficient_rests_on_a_sliver_of_a_difference(new_parts: NewParts) -> None:
    parts, _ = planted(new_parts)
    assert parts.features is not None
    assert parts.decoder is not None
    features, decoder = parts.features.clone(), parts.decoder.clone()
    decoder[5:8] = decoder[17] + 0.5 * decoder[5:8]
    features[:, [5, 6]] = 1.0
    features[:, 7] = 1e-6
    thin = Parts(parts.sample_ids, features @ decoder, features, decoder)
    wanted = compose(thin, Choice((0,), (5, 6))) + decoder[7]
    found = matched(thin, Choice(tuple(range(30)), (5, 6, 7)), wanted)
    assert found.coefficients is not None
    assert max(found.coefficients) == MAX_COEFFICIENT
