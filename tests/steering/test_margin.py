"""Margins by the fast path against plain full forward passes, and their gradient."""

from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trimtab.model.hook_points import SITES, HookPoint, Site
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.model.unembed import logits
from trimtab.pairs import Sample
from trimtab.steering.apply import Steering, steered
from trimtab.steering.clamp import FeatureClamp
from trimtab.steering.margin import Margin
from trimtab.steering.positions import Positions
from trimtab.steering.vector import SteeringVector

POINT = HookPoint(2, "hook_resid_post")
DIRECTION = 2.0 * torch.randn(16, generator=torch.Generator().manual_seed(1))
POSITIONS: tuple[Positions, ...] = get_args(Positions)


def sample(number: int, prompt: str | None, positive: str | None, negative: str | None) -> Sample:
    messages = () if prompt is None else ({"role": "user", "content": prompt},)
    return Sample(str(number), "tone", messages, positive, negative, str(number))


PAIRS = [
    sample(0, "Agree?", "Yes", "No, I would rather not think so."),
    sample(1, "What is the answer to the question about the lazy dog?", "I cannot say.", "A fox"),
    sample(2, "Is it (A) or (B)?", "(A)", "(B)"),
    sample(3, None, "A raw text about a dog.", "Another one"),
]
TEXTS = [
    sample(4, "Agree?", "I think so, yes", None),
    sample(5, None, "Of course", None),
    sample(6, "Agree? Or disagree?", "I do", None),
    sample(7, None, None, "The brown fox jumps over the lazy dog."),
]


def plain_scores(
    model: LanguageModel, samples: Sequence[Sample], steering: Steering | None
) -> NDArray[np.float64]:
    """Scores by one full pass a completion, no cache, nothing batched."""
    scores = []
    for one in samples:
        for _, text in one.sides:
            row = render(model, one.messages, text)
            ids = torch.tensor([row.ids])
            with torch.no_grad():
                if steering is None:
                    logits = model.module(input_ids=ids, use_cache=False).logits[0]
                else:
                    with steered(model, steering, prompt_length=row.n_prompt):
                        logits = model.module(input_ids=ids, use_cache=False).logits[0]
            logprobs = logits.double().log_softmax(-1)
            own = [float(logprobs[i - 1, row.ids[i]]) for i in range(row.n_prompt, len(row.ids))]
            scores.append(sum(own) if one.single_letter else sum(own) / len(own))
    return np.array(scores)


def change_in_margin(
    model: LanguageModel, samples: Sequence[Sample], steering: Steering
) -> Iterator[float]:
    moved = iter(plain_scores(model, samples, steering) - plain_scores(model, samples, None))
    for one in samples:
        yield sum((1 if side == "positive" else -1) * next(moved) for side, _ in one.sides)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("site", SITES)
def test_scores_are_those_of_plain_steered_passes(
    family_model: LanguageModel, site: Site, positions: Positions
) -> None:
    vector = SteeringVector(DIRECTION, HookPoint(1, site), positions)
    samples = PAIRS + TEXTS
    margin = Margin(family_model, samples, vector.hook_point, positions=positions)
    found = margin.scores(vector.edit(1.0))
    np.testing.assert_allclose(found, plain_scores(family_model, samples, vector), atol=1e-4)
    assert np.abs(found - margin.scores()).max() > 0.01  # there is an effect to get wrong


def test_the_base_is_the_unsteered_model(family_model: LanguageModel) -> None:
    margin = Margin(family_model, PAIRS, POINT)
    plain = plain_scores(family_model, PAIRS, None)
    np.testing.assert_allclose(margin.scores(), plain, atol=1e-4)
    np.testing.assert_allclose(margin.base, plain[::2] - plain[1::2], atol=1e-4)


def test_a_clamp_scores_as_it_does_in_plain_passes(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    clamp = FeatureClamp(tiny_sae, {3: 4.0, 5: 0.0, 11: 2.0})
    margin = Margin(tiny_model, PAIRS, clamp.hook_point)
    found = margin.scores(clamp.edit(1.0))
    np.testing.assert_allclose(found, plain_scores(tiny_model, PAIRS, clamp), atol=1e-4)
    assert np.abs(found - margin.scores()).max() > 0.01


def test_effects_are_differences_of_margins_sample_by_sample(tiny_model: LanguageModel) -> None:
    vector = SteeringVector(DIRECTION, POINT)
    change = vector.edit(1.0)
    assert change is not None
    margin = Margin(tiny_model, PAIRS, POINT)
    expected = list(change_in_margin(tiny_model, PAIRS, vector))
    np.testing.assert_allclose(margin.effects(change), expected, atol=2e-4)
    assert margin.mean_effect(change) == pytest.approx(np.mean(expected), abs=1e-4)


def test_effects_of_many_changes_are_those_of_each(tiny_model: LanguageModel) -> None:
    margin = Margin(tiny_model, PAIRS + TEXTS, POINT)
    changes = [SteeringVector(DIRECTION, POINT).edit(0.1 * i) for i in range(1, 60)]
    found = margin.effects_of_many([change for change in changes if change is not None])
    for change, effects in zip(changes, found, strict=True):
        assert change is not None
        np.testing.assert_allclose(effects, margin.effects(change), atol=1e-4)


def test_no_changes_have_no_effects(tiny_model: LanguageModel) -> None:
    assert Margin(tiny_model, PAIRS, POINT).effects_of_many([]).shape == (0, len(PAIRS))


def test_a_choice_between_letters_takes_no_normaliser(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = Margin(tiny_model, [sample(0, "Is it A or B?", "A", "B")], POINT)
    unembedded: list[int] = []

    def count(model: LanguageModel, states: torch.Tensor) -> torch.Tensor:
        unembedded.append(len(states))
        return logits(model, states)

    monkeypatch.setattr("trimtab.steering.margin.logits", count)
    found = letters.per_sample()
    assert sum(unembedded) == 0
    positive, negative = letters.scores()
    assert sum(unembedded) == 1  # both scores need it, and share it
    assert found[0] == pytest.approx(positive - negative, abs=1e-5)


def test_an_unpaired_texts_margin_is_its_signed_score_weighted_by_its_sides_share(
    tiny_model: LanguageModel,
) -> None:
    margin = Margin(tiny_model, TEXTS, POINT)
    scores = plain_scores(tiny_model, TEXTS, None)
    assert (scores < 0).all()
    np.testing.assert_allclose(margin.base, scores * [4 / 3, 4 / 3, 4 / 3, -4], atol=1e-4)


def test_over_unpaired_texts_each_side_counts_the_same(tiny_model: LanguageModel) -> None:
    vector = SteeringVector(DIRECTION, POINT)
    change = vector.edit(1.0)
    assert change is not None
    moved = plain_scores(tiny_model, TEXTS, vector) - plain_scores(tiny_model, TEXTS, None)
    expected = moved[:3].mean() - moved[3]
    assert Margin(tiny_model, TEXTS, POINT).mean_effect(change) == pytest.approx(expected, abs=1e-4)


def test_a_single_letters_score_is_not_diluted_by_its_brackets(tiny_model: LanguageModel) -> None:
    letters = PAIRS[2]
    row = render(tiny_model, letters.messages, "(A)")
    assert len(row.ids) - row.n_prompt > 1
    (positive, _) = Margin(tiny_model, [letters], POINT).scores()
    with torch.no_grad():
        logits = tiny_model.module(input_ids=torch.tensor([row.ids])).logits[0]
    logprobs = logits.log_softmax(-1)
    own = [float(logprobs[i - 1, row.ids[i]]) for i in range(row.n_prompt, len(row.ids))]
    assert positive == pytest.approx(sum(own), abs=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("samples", [PAIRS, TEXTS], ids=["pairs", "texts"])
@pytest.mark.parametrize("at", [0.0, 1.0])
@pytest.mark.parametrize("fast", [True, False])
def test_the_gradient_is_that_of_finite_differences(
    tiny_model: LanguageModel, samples: list[Sample], positions: Positions, at: float, fast: bool
) -> None:
    margin = Margin(tiny_model, samples, POINT, positions=positions)
    margin.replay.fast = fast
    gradient = margin.gradient(at * DIRECTION)
    assert gradient.shape == (16,)
    assert gradient.dtype == torch.float32

    def effect(vector: torch.Tensor) -> float:
        return margin.mean_effect(lambda x: x + vector)

    for seed in range(3):
        along = torch.randn(16, generator=torch.Generator().manual_seed(seed))
        along /= along.norm()
        step = 0.02 * along
        slope = (effect(at * DIRECTION + step) - effect(at * DIRECTION - step)) / 0.04
        assert float(gradient @ along) == pytest.approx(slope, abs=2e-3, rel=0.02)
    assert gradient.norm() > 0.02


def test_a_weighted_gradient_is_that_of_the_weighted_effects(tiny_model: LanguageModel) -> None:
    margin = Margin(tiny_model, PAIRS, POINT)
    over = np.array([0.5, -1.0, 0.0, 2.0])
    gradient = margin.gradient(DIRECTION, over)
    alone = [margin.gradient(DIRECTION, one) for one in np.eye(4)]
    expected = sum(float(w) * g for w, g in zip(over, alone, strict=True))
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)
    assert torch.allclose(margin.gradient(DIRECTION, np.full(4, 0.25)), margin.gradient(DIRECTION))


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_cap_counts_the_first_tokens_of_a_completion_alone(
    tiny_model: LanguageModel, positions: Positions
) -> None:
    vector = SteeringVector(DIRECTION, POINT, positions)
    capped = Margin(tiny_model, PAIRS, POINT, positions=positions, max_tokens=2)
    expected = []
    for one in PAIRS:
        for _, text in one.sides:
            row = render(tiny_model, one.messages, text)
            ids = torch.tensor([row.ids])
            with torch.no_grad(), steered(tiny_model, vector, prompt_length=row.n_prompt):
                logprobs = (
                    tiny_model.module(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
                )
            end = min(row.n_prompt + 2, len(row.ids))
            own = [float(logprobs[i - 1, row.ids[i]]) for i in range(row.n_prompt, end)]
            expected.append(sum(own) if one.single_letter else sum(own) / len(own))
    np.testing.assert_allclose(capped.scores(vector.edit(1.0)), expected, atol=1e-4)
    whole = Margin(tiny_model, PAIRS, POINT, positions=positions, max_tokens=1000)
    np.testing.assert_allclose(whole.base, Margin(tiny_model, PAIRS, POINT).base, atol=1e-5)
    assert np.abs(capped.base - whole.base).max() > 0.01


def test_a_sample_is_cut_where_a_store_cuts_it_and_dropped_without_room(
    tiny_model: LanguageModel,
) -> None:
    rows = [[render(tiny_model, one.messages, text) for _, text in one.sides] for one in PAIRS]
    longest = rows[0][0].n_prompt + 2
    cut = Margin(tiny_model, PAIRS, POINT, longest=longest)
    kept = [
        (one, sides) for one, sides in zip(PAIRS, rows, strict=True) if sides[0].n_prompt < longest
    ]
    assert cut.samples == [one for one, _ in kept]
    assert 1 < len(kept) < len(PAIRS)
    room = [longest - row.n_prompt for _, sides in kept for row in sides]
    lengths = [len(row.ids) - row.n_prompt for _, sides in kept for row in sides]
    assert cut.lengths.tolist() == np.minimum(lengths, room).tolist()
    capped = Margin(tiny_model, cut.samples, POINT, max_tokens=room)
    np.testing.assert_allclose(cut.base, capped.base, atol=1e-5)


def test_nothing_is_scored_beyond_the_models_context(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_model.module.config, "max_position_embeddings", 30)
    margin = Margin(tiny_model, [sample(0, None, "a fox " * 40, "no"), PAIRS[0]], POINT)
    assert int(margin.lengths.max()) == 29
    assert Margin(tiny_model, [sample(0, "a fox " * 40, "a", "b"), PAIRS[3]], POINT).samples == [
        PAIRS[3]
    ]


def test_the_gradient_leaves_its_argument_and_the_model_without_gradients(
    tiny_model: LanguageModel,
) -> None:
    at = DIRECTION.clone()
    Margin(tiny_model, PAIRS, POINT).gradient(at)
    assert not at.requires_grad
    assert at.grad is None
    assert all(parameter.grad is None for parameter in tiny_model.module.parameters())


def test_the_system_prompt_and_the_raw_form_reach_the_model(tiny_model: LanguageModel) -> None:
    plain = Margin(tiny_model, PAIRS[:2], POINT).base
    with_system = Margin(tiny_model, PAIRS[:2], POINT, system="The lazy dog.").base
    raw = Margin(tiny_model, PAIRS[:2], POINT, chat=False).base
    assert np.abs(plain - with_system).min() > 1e-4
    assert np.abs(plain - raw).min() > 1e-4


def test_on_the_default_model_the_fast_path_agrees_with_plain_passes(
    default_model: LanguageModel,
) -> None:
    point = HookPoint(15, "hook_resid_post")
    direction = torch.randn(576, generator=torch.Generator().manual_seed(1))
    vector = SteeringVector(40 * direction / direction.norm(), point)
    margin = Margin(default_model, PAIRS[:2], point)
    found = margin.scores(vector.edit(1.0))
    np.testing.assert_allclose(found, plain_scores(default_model, PAIRS[:2], vector), atol=1e-4)
    assert np.abs(found - margin.scores()).max() > 0.01
