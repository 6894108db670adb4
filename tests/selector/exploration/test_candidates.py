"""Every method of selection gives measured points, and none that cannot be measured."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.exploration.candidates import (
    CURVE_FLOOR,
    DECOMPOSED,
    DECOMPOSED_ON,
    RANDOM_DRAWS,
    RANDOM_SIZES,
    decomposed_candidates,
    few_samples_candidates,
    gate_candidates,
    joint_candidates,
    matched_candidates,
    prune_features,
    prune_samples,
    pruned_candidates,
    pursued_candidates,
    random_candidates,
    smallest_that_holds,
)
from trimtab.selector.exploration.objective import Objective
from trimtab.selector.exploration.pruning import CurvePoint
from trimtab.selector.exploration.surface import Candidate
from trimtab.selector.parts import Parts, compose
from trimtab.selector.rankers.pursuit import matched

GRADIENT = torch.randn(12, generator=torch.Generator().manual_seed(9))
EVERYONE = tuple(range(30))

METHODS = ("joint pruning", "pursuit", "gates", "random", "few samples", "decomposition")


CURVE = tuple(CurvePoint(EVERYONE[:n], 1.0, 1.0) for n in (30, 12, 5, 2, 1))


def fit(vector: Tensor) -> float:
    return float(torch.cosine_similarity(vector, GRADIENT, dim=0))


def objective(parts: Parts, effect: Callable[[Tensor], float] = fit) -> Objective:
    return Objective({"mean": parts}, GRADIENT, effect, lambda _: 2.0, lambda _: GRADIENT)


def at_full_effect(name: str, objective: Objective, dense: float = 1.0) -> list[Candidate]:
    """Run a method, told that the dense vector has the effect `dense`."""
    if name == "joint pruning":
        return joint_candidates(objective, "mean", dense)
    if name == "pursuit":
        return pursued_candidates(objective, "mean", dense)
    if name == "gates":
        return gate_candidates(objective, "mean", dense, seed=0)
    if name == "few samples":
        return few_samples_candidates(objective, "mean", CURVE)
    if name == "decomposition":
        return decomposed_candidates(objective, "mean", CURVE)
    return random_candidates(objective, "mean", seed=0)


def run(name: str, objective: Objective) -> list[Candidate]:
    return at_full_effect(name, objective, dense_effect(objective))


def dense_effect(objective: Objective) -> float:
    return objective.effect(objective.pools["mean"].residual.mean(0))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_points_that_are_measured_as_they_are(parts: Parts, name: str) -> None:
    asked = objective(parts)
    found = run(name, asked)
    assert len(found) > 1
    for c in found:
        assert c.effect == fit(compose(parts, c.choice))
        assert c.method == name
        assert c.choice.features
        assert str(c.size[1]) in c.origin
    assert asked.cost[found[0].method].effects == len(found)
    assert (asked.cost[found[0].method].gradients > 0) == (name == "gates")


@pytest.mark.parametrize("name", METHODS)
def test_a_point_knows_what_its_coefficients_were_matched_to(parts: Parts, name: str) -> None:
    slopes = iter(torch.randn(400, 12, generator=torch.Generator().manual_seed(1)))
    found = run(name, replace(objective(parts), slope=lambda _: next(slopes)))
    for c in found:
        assert (c.towards is None) == (c.choice.coefficients is None)
        if c.towards is not None:
            again = matched(parts, c.choice, c.towards)
            assert (again.samples, again.features) == (c.choice.samples, c.choice.features)
            assert again.coefficients == pytest.approx(c.choice.coefficients, rel=1e-6)


def test_few_samples_keep_every_feature_that_they_have(parts: Parts) -> None:
    assert parts.features is not None
    found = run("few samples", objective(parts))
    assert [c.size[0] for c in found] == [2, 5]  # of the curve's sizes, at 2, 3 and 6 at most
    for c in found:
        missing = set(range(parts.features.shape[1])) - set(c.choice.features or ())
        assert not parts.features[list(c.choice.samples)][:, sorted(missing)].any()


def test_a_decomposition_is_nearer_to_the_dense_vector_with_every_feature(parts: Parts) -> None:
    dense = parts.residual.mean(0)
    found = run("decomposition", objective(parts))
    for samples in {c.choice.samples for c in found}:
        own = [c for c in found if c.choice.samples == samples]
        near = [float(torch.cosine_similarity(compose(parts, c.choice), dense, dim=0)) for c in own]
        assert near == sorted(near)
        assert len(samples) <= max(DECOMPOSED_ON) * parts.n_samples
    assert max(c.size[1] for c in found) <= max(DECOMPOSED)


def test_without_features_nothing_is_taken_apart(dense_parts: Parts) -> None:
    for name in ("few samples", "decomposition"):
        assert run(name, objective(dense_parts)) == []


@pytest.mark.parametrize("name", ["joint pruning", "gates", "random"])
def test_without_an_sae_a_method_chooses_samples(dense_parts: Parts, name: str) -> None:
    found = run(name, objective(dense_parts))
    assert found
    assert all(c.choice.features is None for c in found)


@pytest.mark.parametrize("name", ["joint pruning", "pursuit", "gates"])
def test_a_path_goes_down_until_half_of_the_effect_is_lost(parts: Parts, name: str) -> None:
    asked_for: list[Tensor] = []

    def effect(vector: Tensor) -> float:
        asked_for.append(vector)
        return 1.0 if len(asked_for) <= 3 else CURVE_FLOOR - 0.1

    found = at_full_effect(name, objective(parts, effect))
    on_path = [c for c in found if "matched" not in c.origin]
    assert on_path[-1].effect < CURVE_FLOOR
    assert all(c.effect >= CURVE_FLOOR for c in on_path[:-1])


@pytest.mark.parametrize("name", METHODS)
def test_what_cannot_be_brought_to_the_budget_is_passed_over(parts: Parts, name: str) -> None:
    def unreachable(_: Tensor) -> float:
        raise VectorError("no multiplier reaches the damage budget")

    made = Objective({"mean": parts}, GRADIENT, unreachable, unreachable, lambda _: GRADIENT)
    assert at_full_effect(name, made) == []


@pytest.mark.parametrize("name", METHODS)
def test_where_no_feature_differs_there_is_nothing_to_find(parts: Parts, name: str) -> None:
    assert parts.features is not None
    silent = Parts(
        parts.sample_ids, parts.residual, torch.zeros_like(parts.features), parts.decoder
    )
    assert run(name, objective(silent)) == []


def test_few_features_of_joint_pruning_stand_matched_beside_unmatched(parts: Parts) -> None:
    found = run("joint pruning", objective(parts))
    matched = [c for c in found if c.choice.coefficients is not None]
    plain = [c for c in found if c.choice.coefficients is None]
    assert matched
    assert plain
    assert max(c.effect for c in matched) >= max(c.effect for c in plain) - 1e-5


def test_random_choices_are_as_many_as_asked_and_follow_their_seed(parts: Parts) -> None:
    one, same, other = (
        random_candidates(objective(parts), "mean", seed=seed) for seed in (1, 1, 2)
    )
    assert len(one) == len(RANDOM_SIZES) * RANDOM_DRAWS
    assert one == same
    assert one != other


def test_pruning_keeps_the_curves_and_its_points_are_candidates(parts: Parts) -> None:
    asked = objective(parts)
    dense = dense_effect(asked)
    samples = prune_samples(asked, "mean", dense)
    kept = smallest_that_holds(samples, 0.95)
    features = prune_features(asked, "mean", dense, kept)
    found = pruned_candidates("mean", samples, features, kept)
    assert [c.effect for c in found] == [p.effect for p in features]
    assert all(c.choice.samples == kept and c.method == "pruning" for c in found)
    alone = pruned_candidates("mean", samples, [], kept)
    assert [c.choice.samples for c in alone] == [p.kept for p in samples]
    matched = matched_candidates(asked, "mean", kept)
    assert matched
    assert all(c.choice.coefficients for c in matched)
    assert asked.cost["pruning"].effects == len(samples) + len(features)


def test_where_no_point_holds_the_whole_is_kept(parts: Parts) -> None:
    asked = objective(parts)
    curve = prune_samples(asked, "mean", 100.0)
    assert smallest_that_holds(curve, 0.95) == EVERYONE
