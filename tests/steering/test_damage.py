"""Damage is the plain KL divergence of steered from unsteered predictions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.model.hook_points import SITES, HookPoint, Site
from trimtab.model.hooks import edit, residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.steering.damage import CONTEXT_TOKENS, Damage, Divergence, neutral_texts
from trimtab.steering.vector import SteeringVector

POINT = HookPoint(1, "hook_resid_post")
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "What is the answer to the question?" * 8,
    "I think that you",
    "Sorry",
]
DIRECTION = torch.randn(16, generator=torch.Generator().manual_seed(1))


def contexts(model: LanguageModel) -> list[Tensor]:
    rows = [render(model, (), text, chat=False).ids[:CONTEXT_TOKENS] for text in TEXTS]
    return [torch.tensor([row]) for row in rows]


@pytest.mark.parametrize("site", SITES)
def test_damage_is_the_plain_divergence_with_the_first_token_unsteered(
    family_model: LanguageModel, site: Site
) -> None:
    point = HookPoint(1, site)
    nats = []
    for ids in contexts(family_model):

        def add(x: Tensor) -> Tensor:
            return torch.cat([x[:, :1], x[:, 1:] + DIRECTION], dim=1)

        with torch.no_grad():
            base = family_model.module(input_ids=ids).logits[0, 1:].double().log_softmax(-1)
            with edit(family_model, point, add):
                steered = family_model.module(input_ids=ids).logits[0, 1:].double().log_softmax(-1)
        nats.append((steered.exp() * (steered - base)).sum(-1))
    expected = torch.cat(nats).numpy()
    found = Damage(family_model, point, TEXTS)(SteeringVector(DIRECTION, point).edit(1.0))
    assert found.mean == pytest.approx(expected.mean(), rel=1e-3, abs=1e-5)
    assert found.p95 == pytest.approx(np.quantile(expected, 0.95), rel=1e-3, abs=1e-5)
    assert found.mean > 1e-4


def test_without_an_edit_there_is_none(tiny_model: LanguageModel) -> None:
    damage = Damage(tiny_model, POINT, TEXTS)
    assert damage(None) == Divergence(0.0, 0.0)
    untouched = damage(lambda x: x)
    assert abs(untouched.mean) < 1e-6


def test_damage_grows_with_the_multiplier_about_quadratically_at_first(
    tiny_model: LanguageModel,
) -> None:
    damage = Damage(tiny_model, POINT, TEXTS)
    vector = SteeringVector(DIRECTION, POINT)
    means = [damage(vector.edit(m)).mean for m in (0.05, 0.1, 0.5, 1.0, 2.0)]
    assert means == sorted(means)
    assert means[1] / means[0] == pytest.approx(4, rel=0.2)


def test_measuring_twice_gives_the_same(tiny_model: LanguageModel) -> None:
    damage = Damage(tiny_model, POINT, TEXTS)
    change = SteeringVector(DIRECTION, POINT).edit(1.0)
    assert damage(change) == damage(change)


def test_the_residuals_length_is_its_median_over_the_steered_tokens(
    tiny_model: LanguageModel,
) -> None:
    lengths = torch.cat(
        [
            residuals(tiny_model, ids, None, [POINT])[POINT][0, 1:].norm(dim=-1)
            for ids in contexts(tiny_model)
        ]
    )
    found = Damage(tiny_model, POINT, TEXTS).residual_norm
    assert found == pytest.approx(float(lengths.median()), rel=1e-5)


def test_the_packaged_neutral_texts_fill_a_context_each(tiny_model: LanguageModel) -> None:
    texts = neutral_texts()
    assert len(texts) >= 48
    assert len(set(texts)) == len(texts)
    rows = [render(tiny_model, (), text, chat=False).ids for text in texts]
    assert min(map(len, rows)) >= CONTEXT_TOKENS
