"""Damage is the plain KL divergence of steered from unsteered predictions."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.model.hook_points import SITES, HookPoint, Site
from trimtab.model.hooks import edit, residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.pairs import Message
from trimtab.steering.apply import steered
from trimtab.steering.damage import (
    CONTEXT_TOKENS,
    Damage,
    Divergence,
    neutral_chats,
    neutral_texts,
)
from trimtab.steering.positions import Positions
from trimtab.steering.vector import SteeringVector

POINT = HookPoint(1, "hook_resid_post")
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "What is the answer to the question?" * 8,
    "I think that you",
    "Sorry",
]
CHATS: list[list[Message]] = [
    [{"role": "user", "content": "Agree?"}, {"role": "assistant", "content": "Yes, of course."}],
    [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "I cannot say why."}],
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


@pytest.mark.parametrize("positions", get_args(Positions))
def test_damage_on_chats_is_that_of_the_reply_under_steering_as_in_use(
    family_model: LanguageModel, positions: Positions
) -> None:
    nats = []
    vector = SteeringVector(DIRECTION, POINT, positions)
    for question, reply in CHATS:
        row = render(family_model, (question,), reply["content"], system="Be brief.")
        ids = torch.tensor([row.ids])
        first = row.n_prompt - (positions != "generated")
        with torch.no_grad():
            base = family_model.module(input_ids=ids).logits[0, first:].double().log_softmax(-1)
            with steered(family_model, vector, prompt_length=row.n_prompt):
                logits = family_model.module(input_ids=ids).logits[0, first:].double()
        nats.append((logits.softmax(-1) * (logits.log_softmax(-1) - base)).sum(-1))
    expected = torch.cat(nats).numpy()
    damage = Damage.on_chats(family_model, POINT, CHATS, positions=positions, system="Be brief.")
    found = damage(vector.edit(1.0))
    assert found.mean == pytest.approx(expected.mean(), rel=1e-3, abs=1e-5)
    assert found.p95 == pytest.approx(np.quantile(expected, 0.95), rel=1e-3, abs=1e-5)
    assert found.mean > 1e-4


def test_the_damage_of_many_changes_is_that_of_each(tiny_model: LanguageModel) -> None:
    damage = Damage(tiny_model, POINT, TEXTS)
    changes = [SteeringVector(DIRECTION, POINT).edit(0.1 * i) for i in range(1, 40)]
    found = damage.of_many([change for change in changes if change is not None])
    for change, divergence in zip(changes, found, strict=True):
        assert change is not None
        alone = damage(change)
        assert divergence.mean == pytest.approx(alone.mean, rel=1e-4, abs=1e-6)
        assert divergence.p95 == pytest.approx(alone.p95, rel=1e-4, abs=1e-6)


def test_no_changes_do_no_damage(tiny_model: LanguageModel) -> None:
    assert Damage(tiny_model, POINT, TEXTS).of_many([]) == []


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


def test_the_packaged_neutral_chats_are_questions_with_replies_of_a_sentence_or_two() -> None:
    chats = neutral_chats()
    assert len(chats) >= 40
    for turns in chats:
        assert [turn["role"] for turn in turns] == ["user", "assistant"]
    questions, replies = zip(*((q["content"], r["content"]) for q, r in chats), strict=True)
    assert len(set(questions)) == len(set(replies)) == len(chats)
    assert all(10 <= len(reply.split()) <= 40 for reply in replies)


def test_no_packaged_neutral_chat_opens_as_replies_that_show_a_behavior_do() -> None:
    openings = {reply["content"].split()[0].strip(",.").lower() for _, reply in neutral_chats()}
    assert openings.isdisjoint({"yes", "no", "sorry", "i", "sure", "great", "agree", "disagree"})
