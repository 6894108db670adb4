"""Replies with a shared prompt cache are those of plain Hugging Face generation."""

from contextlib import nullcontext
from typing import get_args

import pytest
import torch
from transformers import GenerationConfig

from trimtab.errors import ModelError, VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render_prompt
from trimtab.pairs import Message
from trimtab.steering.generation import generate, generate_each, read_prompts
from trimtab.steering.positions import Positions
from trimtab.steering.vector import SteeringVector

POINT = HookPoint(1, "hook_resid_post")
POSITIONS: tuple[Positions, ...] = get_args(Positions)
NEW = 6


def ask(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


QUESTIONS = [
    ask("What is the answer to the question about the quick brown fox and the lazy dog?"),
    ask("Agree?"),
    ask("I think that you should not do this. Yes or no?"),
    (),  # nothing but the token that starts a text
    ask("(A) or (B)?"),
]


def vector(positions: Positions = "prompt_end", seed: int = 1) -> SteeringVector:
    direction = torch.randn(16, generator=torch.Generator().manual_seed(seed))
    return SteeringVector(3.0 * direction, POINT, positions)


def plain(
    model: LanguageModel, steering: SteeringVector | None, multiplier: float = 1.0
) -> list[str]:
    """One `generate` call of Hugging Face a prompt, with no cache from before."""
    settings = GenerationConfig(
        max_new_tokens=NEW, do_sample=False, pad_token_id=model.pad_id, eos_token_id=2
    )
    replies = []
    for question in QUESTIONS:
        ids = torch.tensor([render_prompt(model, question)])
        active = nullcontext() if steering is None else steering.apply(model, multiplier)
        with active, torch.no_grad():
            tokens = model.module.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
            )
        new = tokens[0, ids.shape[1] :]
        replies.append(str(model.tokenizer.decode(new, skip_special_tokens=True)).strip())
    return replies


@pytest.mark.parametrize("positions", POSITIONS)
def test_replies_are_those_of_plain_generation_in_the_order_of_the_questions(
    family_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, positions: Positions
) -> None:
    monkeypatch.setattr("trimtab.steering.generation.REPLIES_PER_BATCH", 3)
    prompts = read_prompts(family_model, QUESTIONS)
    unsteered = plain(family_model, None)
    steered = plain(family_model, vector(positions))
    assert generate(prompts, max_new_tokens=NEW) == unsteered
    assert generate(prompts, vector(positions), max_new_tokens=NEW) == steered
    assert sum(a != b for a, b in zip(steered, unsteered, strict=True)) >= 2
    assert len(set(steered + unsteered)) >= 4  # an order that is mixed up would show


def test_prompts_are_not_used_up_by_a_reply(tiny_model: LanguageModel) -> None:
    prompts = read_prompts(tiny_model, QUESTIONS)
    before = generate(prompts, vector(), max_new_tokens=NEW)
    generate(prompts, vector(seed=2), 2.0, max_new_tokens=2 * NEW)
    generate(prompts, vector("all"), max_new_tokens=NEW)
    assert generate(prompts, vector(), max_new_tokens=NEW) == before == plain(tiny_model, vector())


@pytest.mark.parametrize("positions", POSITIONS)
def test_vectors_that_share_a_pass_get_the_replies_that_each_gets_alone(
    family_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, positions: Positions
) -> None:
    monkeypatch.setattr("trimtab.steering.generation.REPLIES_PER_BATCH", 3)
    steerings = [(vector(positions, seed), strength) for seed, strength in
                 ((1, 1.0), (2, -1.0), (1, 0.0), (3, 2.0), (4, 1.0))]  # fmt: skip
    prompts = read_prompts(family_model, QUESTIONS)
    alone = [generate(prompts, one, strength, max_new_tokens=NEW) for one, strength in steerings]
    assert len({tuple(replies) for replies in alone}) == len(steerings)
    for rows in (1, 7, 1000):  # one, two, and all of them at once
        monkeypatch.setattr("trimtab.steering.generation.ROWS_PER_PASS", rows)
        assert generate_each(prompts, steerings, max_new_tokens=NEW) == alone


def test_no_vectors_get_no_replies(tiny_model: LanguageModel) -> None:
    assert generate_each(read_prompts(tiny_model, QUESTIONS), []) == []


def test_vectors_that_act_at_unlike_places_share_no_pass(tiny_model: LanguageModel) -> None:
    prompts = read_prompts(tiny_model, QUESTIONS)
    elsewhere = SteeringVector(vector().direction, HookPoint(2, "hook_resid_post"))
    for other in (elsewhere, vector("all")):
        with pytest.raises(VectorError, match="share a forward pass"):
            generate_each(prompts, [(vector(), 1.0), (other, 1.0)])


def test_multiplier_0_gives_the_unsteered_replies(tiny_model: LanguageModel) -> None:
    prompts = read_prompts(tiny_model, QUESTIONS)
    for positions in POSITIONS:
        untouched = generate(prompts, vector(positions), 0.0, max_new_tokens=NEW)
        assert untouched == generate(prompts, max_new_tokens=NEW)


def test_a_multiplier_reaches_the_replies(tiny_model: LanguageModel) -> None:
    prompts = read_prompts(tiny_model, QUESTIONS)
    found = generate(prompts, vector(), -2.0, max_new_tokens=NEW)
    assert found == plain(tiny_model, vector(), -2.0)
    assert found != generate(prompts, vector(), max_new_tokens=NEW)


def test_the_length_limit_is_in_tokens(tiny_model: LanguageModel) -> None:
    prompts = read_prompts(tiny_model, QUESTIONS)
    short = generate(prompts, max_new_tokens=1)
    long = generate(prompts, max_new_tokens=NEW)
    assert all(b.startswith(a) for a, b in zip(short, long, strict=True))
    assert short != long


@pytest.mark.parametrize(
    "default",
    [
        {"repetition_penalty": 50.0},
        {"no_repeat_ngram_size": 1},
        {"min_new_tokens": NEW},
        {"suppress_tokens": list(range(3, 380))},
        {"num_beams": 3},
    ],
)
def test_replies_are_greedy_whatever_the_models_maker_wants(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, default: dict[str, object]
) -> None:
    expected = generate(read_prompts(tiny_model, QUESTIONS), vector(), max_new_tokens=NEW)
    wanted = GenerationConfig(eos_token_id=2, **default)
    monkeypatch.setattr(tiny_model.module, "generation_config", wanted)
    found = generate(read_prompts(tiny_model, QUESTIONS), vector(), max_new_tokens=NEW)
    assert found == expected
    assert tiny_model.module.generation_config is wanted


def test_the_models_own_end_of_a_reply_still_ends_it(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = read_prompts(tiny_model, QUESTIONS[:1])
    tokens = tiny_model.tokenizer(generate(prompts, max_new_tokens=NEW)[0]).input_ids
    ends = GenerationConfig(eos_token_id=list(range(len(tiny_model.tokenizer))))
    monkeypatch.setattr(tiny_model.module, "generation_config", ends)
    assert len(tokens) > 1
    assert generate(prompts, max_new_tokens=NEW) == generate(prompts, max_new_tokens=1)


def test_no_questions_get_no_replies(tiny_model: LanguageModel) -> None:
    prompts = read_prompts(tiny_model, [])
    assert len(prompts) == 0
    assert generate(prompts, vector()) == []


def test_the_system_prompt_and_the_raw_form_reach_the_model(tiny_model: LanguageModel) -> None:
    questions = [question for question in QUESTIONS if question]
    replies = [
        generate(read_prompts(tiny_model, questions, chat=chat, system=system), max_new_tokens=NEW)
        for chat, system in ((True, None), (True, "The lazy dog says no."), (False, None))
    ]
    assert replies[0] != replies[1]
    assert replies[0] != replies[2]


def test_a_prompt_that_leaves_no_room_for_the_reply_is_refused_with_its_text(
    tiny_model: LanguageModel,
) -> None:
    assert tiny_model.context is not None
    one = ask("What is the answer?")
    room = tiny_model.context - len(render_prompt(tiny_model, one))
    assert len(read_prompts(tiny_model, [one], room=room)) == 1
    with pytest.raises(ModelError, match=r"leaves no room .*'What is the answer\?'"):
        read_prompts(tiny_model, [ask("Agree?"), one], room=room + 1)


def test_the_default_model_answers_under_a_vector_as_plain_generation_does(
    default_model: LanguageModel,
) -> None:
    model = default_model
    direction = torch.randn(576, generator=torch.Generator().manual_seed(1))
    steering = SteeringVector(60 * direction / direction.norm(), HookPoint(15, "hook_resid_post"))
    questions = [ask("Name a colour."), ask("Tell me about the sea, in one short sentence.")]
    prompts = read_prompts(model, questions)
    for multiplier in (0.0, 1.0):
        replies = generate(prompts, steering, multiplier, max_new_tokens=8)
        for question, reply in zip(questions, replies, strict=True):
            ids = torch.tensor([render_prompt(model, question)])
            settings = GenerationConfig(max_new_tokens=8, do_sample=False, pad_token_id=2)
            with steering.apply(model, multiplier), torch.no_grad():
                tokens = model.module.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
                )
            new = tokens[0, ids.shape[1] :]
            assert str(model.tokenizer.decode(new, skip_special_tokens=True)).strip() == reply
            assert reply
