"""Each surrogate measures what its name says, at equal damage, and knows its own gradient."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimtab.pairs import Sample
from trimtab.selector.surrogates import SURROGATES, TARGETS
from trimtab.selector.target import own_replies, weighted_replies
from trimtab.selector.target.behavior_rate import guided
from trimtab.selector.target.build import ON_REPLIES, ON_SAMPLES, joined, on_samples
from trimtab.selector.target.dataset_first_tokens import FIRST_TOKENS
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.replies import MIN_REPLIES, Replies
from trimtab.selector.target.surrogate import GRADIENT_STEPS, Surrogate, gradient_along
from trimtab.steering.margin import Margin

DIRECTION = torch.randn(16, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def replies(ground: Ground) -> Replies:
    """Eight replies on each side, as certain as they could be, and four that are not."""
    texts = [("Sorry, I cannot.", 0.9), ("Yes, of course I do.", 0.2)] * MIN_REPLIES
    texts += [("Yes, but I cannot.", 0.6), ("The answer is (A).", 0.45)] * 2
    samples = tuple(
        replace(ground.tune[i % 10], id=str(i), positive=text, negative=None)
        for i, (text, _) in enumerate(texts)
    )
    positive = np.array([i % 2 == 0 for i in range(2 * MIN_REPLIES)] + [False, True] * 2)
    probability = np.array([p for _, p in texts])
    return Replies(samples, positive, probability, ground.bench.margin(samples))


def measured(ground: Ground, margin: Margin, direction: Tensor) -> np.ndarray:
    found = ground.bench.calibrate(direction)
    change = ground.bench.vector(direction).edit(found.multiplier)
    assert change is not None
    return margin.effects(change)


def test_every_surrogate_has_a_name_that_people_can_read() -> None:
    assert {*ON_SAMPLES, *ON_REPLIES, "learned"} == set(SURROGATES)
    assert set(TARGETS) == {*SURROGATES, "behavior_rate"}


def test_the_dataset_is_measured_whole_or_by_its_first_tokens(ground: Ground) -> None:
    by_name = {surrogate.name: surrogate for surrogate in on_samples(ground)}
    whole = measured(ground, ground.bench.margin(ground.tune), DIRECTION)
    assert by_name["dataset"].effect(DIRECTION) == pytest.approx(whole.mean(), abs=1e-6)
    np.testing.assert_allclose(by_name["dataset"].effects(DIRECTION), whole, atol=1e-6)
    assert list(by_name["dataset"].groups) == [sample.group for sample in ground.tune]
    capped = ground.bench.margin(ground.tune, max_tokens=FIRST_TOKENS)
    first = measured(ground, capped, DIRECTION).mean()
    assert by_name["dataset_first_tokens"].effect(DIRECTION) == pytest.approx(first, abs=1e-6)
    assert first != pytest.approx(whole.mean(), abs=1e-3)


def test_the_projection_is_how_far_the_added_vector_reaches_along_the_dense_one(
    ground: Ground,
) -> None:
    projection = ON_SAMPLES["projection"](ground, None)
    assert projection is not None
    multiplier = ground.bench.calibrate(DIRECTION).multiplier
    cosine = float(torch.cosine_similarity(DIRECTION, ground.dense, dim=0))
    assert projection.effect(DIRECTION) == pytest.approx(multiplier * cosine, rel=1e-4)
    assert projection.effect(ground.dense) == pytest.approx(ground.strength, rel=1e-4)
    assert projection.effect(-DIRECTION) * cosine < 0
    assert len(projection.effects(DIRECTION)) == len(projection.groups) == 10


@pytest.mark.parametrize("name", [*ON_SAMPLES, *ON_REPLIES])
def test_a_directions_length_says_nothing_and_its_parts_have_groups(
    name: str, ground: Ground, replies: Replies
) -> None:
    surrogate = {**ON_SAMPLES, **ON_REPLIES}[name](ground, replies)
    assert surrogate is not None
    assert surrogate.name == name
    assert surrogate.effect(5 * DIRECTION) == pytest.approx(surrogate.effect(DIRECTION), rel=1e-3)
    assert len(surrogate.effects(DIRECTION)) == len(surrogate.groups)


@pytest.mark.parametrize("name", [*ON_SAMPLES, *ON_REPLIES])
def test_the_gradient_is_that_of_the_effect_at_a_fixed_strength(
    name: str, ground: Ground, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    surrogate = {**ON_SAMPLES, **ON_REPLIES}[name](ground, replies)
    assert surrogate is not None and surrogate.gradient is not None
    bench, at = ground.bench, 2 * DIRECTION
    gradient = surrogate.gradient(at)

    def effect(added: Tensor) -> float:
        found = bench.calibrate(DIRECTION)
        length = float(added.norm())
        monkeypatch.setattr(type(bench), "calibrate", lambda *_: replace(found, multiplier=length))
        try:
            return surrogate.effect(added)
        finally:
            monkeypatch.undo()

    for seed in range(2):
        along = torch.randn(16, generator=torch.Generator().manual_seed(seed))
        step = 0.02 * along / along.norm()
        slope = (effect(at + step) - effect(at - step)) / 0.04
        expected = float(gradient @ along / along.norm())
        assert slope == pytest.approx(expected, abs=3e-3, rel=0.03)


def test_a_gradient_is_averaged_along_the_dense_vector(ground: Ground) -> None:
    (dataset, *_) = on_samples(ground)
    assert dataset.gradient is not None
    dense = ground.strength * ground.dense / ground.dense.norm()
    steps = [dataset.gradient(share * dense) for share in GRADIENT_STEPS]
    found = gradient_along(ground, dataset)
    assert found is not None
    torch.testing.assert_close(found, torch.stack(steps).mean(0))
    without = replace(dataset, gradient=None)
    assert gradient_along(ground, without) is None


def test_own_replies_count_where_the_classifier_agrees(ground: Ground, replies: Replies) -> None:
    weights = own_replies.kept(replies)
    assert weights is not None
    first = weights[: 2 * MIN_REPLIES]
    np.testing.assert_allclose(first, [1 / MIN_REPLIES, -1 / MIN_REPLIES] * MIN_REPLIES)
    assert (weights[2 * MIN_REPLIES :] == 0).all()  # written for one side, found on the other
    surrogate = own_replies.surrogate(ground, replies)
    assert surrogate is not None
    effects = measured(ground, replies.margin, DIRECTION)
    expected = effects[: 2 * MIN_REPLIES : 2].mean() - effects[1 : 2 * MIN_REPLIES : 2].mean()
    assert surrogate.effect(DIRECTION) == pytest.approx(expected, abs=1e-5)


def test_too_few_replies_a_side_make_no_surrogate(ground: Ground, replies: Replies) -> None:
    fewer = replace(replies, probability=np.where(replies.probability > 0.8, 0.4, 0.2))
    assert own_replies.kept(fewer) is None
    for build in ON_REPLIES.values():
        assert build(ground, None) is None
    for name in ("own_replies", "own_replies_first_tokens"):
        assert ON_REPLIES[name](ground, fewer) is None
    assert weighted_replies.soft(np.full(40, 0.1)) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2 * MIN_REPLIES, max_size=60))
def test_soft_weights_sum_to_nothing_and_grow_with_the_probability(ps: list[float]) -> None:
    probability = np.array(ps)
    weights = weighted_replies.soft(probability)
    if min(probability.sum(), (1 - probability).sum()) < MIN_REPLIES:
        assert weights is None
        return
    assert weights is not None
    assert weights.sum() == pytest.approx(0, abs=1e-9)
    centred = probability - probability.mean()
    scale = np.abs(weights).max() / max(np.abs(centred).max(), 1e-12)
    np.testing.assert_allclose(weights, scale * centred, atol=1e-9)


def test_the_behaviour_rate_is_what_is_added_to_the_unsteered_one(ground: Ground) -> None:
    (guide, *_) = on_samples(ground)
    rate = guided(ground, guide)
    added = ground.shown(DIRECTION).mean() - ground.shown(None).mean()
    assert rate.effect(DIRECTION) == pytest.approx(added)
    assert rate.gradient is guide.gradient
    assert len(rate.groups) == len(ground.conversations)


def test_fresh_surrogates_take_the_place_of_their_namesakes(ground: Ground) -> None:
    old = on_samples(ground)
    fresh = Surrogate("dataset", lambda _: np.zeros(1), ["all"])
    own = Surrogate("own_replies", lambda _: np.zeros(1), ["all"])
    found = joined(old, [own, fresh])
    assert [s.name for s in found] == [
        "dataset", "own_replies", "dataset_first_tokens", "projection",
    ]  # fmt: skip
    assert found[0] is fresh


def test_what_was_measured_is_not_measured_again(
    ground: Ground, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    surrogates = [build(ground, replies) for build in {**ON_SAMPLES, **ON_REPLIES}.values()]
    known = [s for s in surrogates if s is not None]
    before = [(s.effect(DIRECTION), gradient_along(ground, s)) for s in known]

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Margin, "effects", never)
    monkeypatch.setattr(Margin, "gradient", never)
    for surrogate, (effect, gradient) in zip(known, before, strict=True):
        assert surrogate.effect(DIRECTION) == effect
        assert gradient is not None
        again = gradient_along(ground, surrogate)
        assert again is not None and torch.equal(again, gradient)


def test_other_replies_are_measured_under_another_name(ground: Ground, replies: Replies) -> None:
    other = tuple(
        Sample(s.id, s.behavior, s.messages, f"{s.positive} {i}", None, s.group)
        for i, s in enumerate(replies.samples)
    )
    assert replace(replies, samples=other).key != replies.key
    assert replace(replies, samples=replies.samples).key == replies.key
