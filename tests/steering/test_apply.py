"""Steering a model while it runs and generates: which positions are touched, and nothing else."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from trimtab.model.batch import pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit
from trimtab.model.language_model import LanguageModel
from trimtab.steering.apply import steered
from trimtab.steering.positions import Positions
from trimtab.steering.vector import SteeringVector

POINT = HookPoint(1, "hook_resid_post")
PROMPT = [1, 30, 41, 52, 63, 74, 85, 96, 107, 118, 129, 140]  # longer than the sliding windows
SHORT = [1, 9, 8]
NEW = 5
POSITIONS: tuple[Positions, ...] = get_args(Positions)


def vector(positions: Positions = "prompt_end", point: HookPoint = POINT) -> SteeringVector:
    direction = torch.randn(16, generator=torch.Generator().manual_seed(1))
    return SteeringVector(3.0 * direction, point, positions)


def forward(model: LanguageModel, ids: list[int]) -> Tensor:
    """Logits `(seq, vocabulary)` of one row, without a cache."""
    with torch.no_grad():
        return torch.as_tensor(
            model.module(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        )


def generated(model: LanguageModel, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """New tokens `(rows, NEW)` and the logits that chose them, `(NEW, rows, vocabulary)`."""
    batch = pad(rows, "left", model.pad_id)
    settings = GenerationConfig(
        max_new_tokens=NEW,
        do_sample=False,
        pad_token_id=model.pad_id,
        eos_token_id=1_000_000,  # no such token: every row is generated to the end
        output_logits=True,
        return_dict_in_generate=True,
    )
    with torch.no_grad():
        found: Any = model.module.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            generation_config=settings,
        )
    return found.sequences[:, batch.input_ids.shape[1] :], torch.stack(found.logits)


def by_hand(
    model: LanguageModel, prompt: list[int], direction: Tensor, start: int
) -> tuple[list[int], Tensor]:
    """Greedy tokens and their logits by full passes, `direction` added from `start` on."""
    ids, chosen_by = list(prompt), []

    def add(x: Tensor) -> Tensor:
        return torch.cat([x[:, :start], x[:, start:] + direction], dim=1)

    for _ in range(NEW):
        with edit(model, POINT, add):
            chosen_by.append(forward(model, ids)[-1])
        ids.append(int(chosen_by[-1].argmax()))
    return ids[len(prompt) :], torch.stack(chosen_by)


def first_steered(positions: Positions, prompt: list[int]) -> int:
    return {"all": 0, "prompt_end": len(prompt) - 1, "generated": len(prompt)}[positions]


def hook_count(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_multiplier_0_is_the_untouched_model_bit_for_bit(tiny_model: LanguageModel) -> None:
    before, hooks = forward(tiny_model, PROMPT), hook_count(tiny_model.module)
    tokens, logits = generated(tiny_model, [PROMPT, SHORT])
    with vector("all").apply(tiny_model, 0.0):
        assert hook_count(tiny_model.module) == hooks
        assert torch.equal(forward(tiny_model, PROMPT), before)
        steered_tokens, steered_logits = generated(tiny_model, [PROMPT, SHORT])
    assert torch.equal(steered_tokens, tokens)
    assert torch.equal(steered_logits, logits)


@pytest.mark.parametrize("positions", POSITIONS)
def test_every_generated_token_is_steered_as_full_passes_would_steer_it(
    family_model: LanguageModel, positions: Positions
) -> None:
    steering = vector(positions)
    expected, expected_logits = by_hand(
        family_model, PROMPT, steering.direction, first_steered(positions, PROMPT)
    )
    plain, plain_logits = generated(family_model, [PROMPT])
    with steering.apply(family_model):
        tokens, logits = generated(family_model, [PROMPT])
    assert tokens[0].tolist() == expected
    torch.testing.assert_close(logits[:, 0], expected_logits, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(logits[1], plain_logits[1], atol=0.05)  # there is something to see
    first_is_steered = positions != "generated"
    assert torch.equal(logits[0], plain_logits[0]) is not first_is_steered
    assert plain.shape == tokens.shape


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_left_padded_batch_is_steered_as_its_rows_are_alone(
    family_model: LanguageModel, positions: Positions
) -> None:
    with vector(positions).apply(family_model):
        tokens, logits = generated(family_model, [PROMPT, SHORT])
        for row, prompt in enumerate((PROMPT, SHORT)):
            alone, alone_logits = generated(family_model, [prompt])
            assert tokens[row].tolist() == alone[0].tolist()
            torch.testing.assert_close(logits[:, row], alone_logits[:, 0], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_prompt_run_with_its_answer_is_steered_from_the_given_length_on(
    tiny_model: LanguageModel, positions: Positions
) -> None:
    steering = vector(positions)
    with steering.apply(tiny_model, prompt_length=4):
        logits = forward(tiny_model, PROMPT)
    start = first_steered(positions, PROMPT[:4])

    def add(x: Tensor) -> Tensor:
        return torch.cat([x[:, :start], x[:, start:] + steering.direction], dim=1)

    before = forward(tiny_model, PROMPT)
    with edit(tiny_model, POINT, add):
        expected = forward(tiny_model, PROMPT)
    assert torch.equal(logits, expected)
    assert torch.equal(logits[:start], before[:start])
    assert not torch.allclose(logits[start], before[start], atol=1e-2)


def test_hooks_are_gone_even_when_the_block_raises(tiny_model: LanguageModel) -> None:
    before, hooks = forward(tiny_model, PROMPT), hook_count(tiny_model.module)

    def work() -> None:
        with vector().apply(tiny_model):
            forward(tiny_model, PROMPT)
            assert hook_count(tiny_model.module) > hooks
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        work()
    assert hook_count(tiny_model.module) == hooks
    assert torch.equal(forward(tiny_model, PROMPT), before)


def test_hooks_are_gone_when_the_hook_point_does_not_exist(tiny_model: LanguageModel) -> None:
    hooks = hook_count(tiny_model.module)
    with (
        pytest.raises(Exception, match="4 layers"),
        steered(tiny_model, vector(point=HookPoint(9, "hook_resid_post"))),
    ):
        raise AssertionError("the block must not be entered")
    assert hook_count(tiny_model.module) == hooks


def test_steerings_can_be_applied_one_inside_the_other(tiny_model: LanguageModel) -> None:
    one, other = vector("all"), vector("all", HookPoint(2, "hook_mlp_out"))
    with one.apply(tiny_model), other.apply(tiny_model):
        both = forward(tiny_model, PROMPT)
    with (
        edit(tiny_model, one.hook_point, lambda x: x + one.direction),
        edit(tiny_model, other.hook_point, lambda x: x + other.direction),
    ):
        expected = forward(tiny_model, PROMPT)
    assert torch.equal(both, expected)


def test_a_multiplier_scales_what_is_added(tiny_model: LanguageModel) -> None:
    with vector("all").apply(tiny_model, -0.5):
        halved = forward(tiny_model, PROMPT)
    with (-0.5 * vector("all")).apply(tiny_model):
        assert torch.allclose(halved, forward(tiny_model, PROMPT))
