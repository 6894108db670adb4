from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from trimtab.errors import ModelError
from trimtab.model.batch import pad
from trimtab.model.hook_points import SITES, HookPoint, Site
from trimtab.model.hooks import edit, record, residuals
from trimtab.model.language_model import LanguageModel

IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [9, 8, 7, 6, 5, 4]])


def logits(model: LanguageModel) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(model.module(input_ids=IDS).logits)


def hook_count(module: nn.Module) -> int:
    """Ours and those that transformers keeps for itself."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


@pytest.mark.parametrize("site", SITES)
def test_an_edit_that_returns_its_argument_changes_no_bit(
    family_model: LanguageModel, site: Site
) -> None:
    before = logits(family_model)
    with edit(family_model, HookPoint(1, site), lambda x: x):
        assert torch.equal(logits(family_model), before)


@pytest.mark.parametrize("site", SITES)
def test_an_edit_reaches_the_output_and_goes_with_its_context(
    family_model: LanguageModel, site: Site
) -> None:
    before = logits(family_model)
    hooks = hook_count(family_model.module)
    with edit(family_model, HookPoint(1, site), lambda x: x + torch.arange(16.0)):
        assert not torch.allclose(logits(family_model), before, atol=1e-3)
    assert torch.equal(logits(family_model), before)
    assert hook_count(family_model.module) == hooks


def test_adding_to_a_layers_last_block_moves_its_residual_by_what_was_added(
    family_model: LanguageModel,
) -> None:
    vector = torch.linspace(-1, 1, 16)
    post = HookPoint(1, "hook_resid_post")
    before = residuals(family_model, IDS, None, [post])[post]
    sites: list[Site] = ["hook_mlp_out", "hook_resid_post"]
    if getattr(family_model.module.config, "use_parallel_residual", False):
        sites.append("hook_attn_out")  # the MLP beside it does not see it
    for site in sites:
        with edit(family_model, HookPoint(1, site), lambda x: x + vector):
            after = residuals(family_model, IDS, None, [post])[post]
        torch.testing.assert_close(after, before + vector)


def test_the_residual_before_a_layer_is_the_one_after_the_layer_below(
    family_model: LanguageModel,
) -> None:
    def shift(x: Tensor) -> Tensor:
        return x * 1.5 - 0.25

    with edit(family_model, HookPoint(2, "hook_resid_pre"), shift):
        by_input = logits(family_model)
    with edit(family_model, HookPoint(1, "hook_resid_post"), shift):
        assert torch.equal(logits(family_model), by_input)


def test_hooks_go_when_the_forward_pass_fails(tiny_model: LanguageModel) -> None:
    def fail(x: Tensor) -> Tensor:
        raise ZeroDivisionError

    hooks = hook_count(tiny_model.module)
    with (
        pytest.raises(ZeroDivisionError),
        record(tiny_model, [HookPoint(0, "hook_resid_pre")]),
        edit(tiny_model, HookPoint(1, "hook_mlp_out"), fail),
    ):
        logits(tiny_model)
    assert hook_count(tiny_model.module) == hooks


@pytest.mark.parametrize(
    "fn", [lambda x: x[:, :1], lambda x: x.sum(), lambda x: x[:1], lambda x: x.double()]
)
def test_an_edit_that_changes_the_shape_or_dtype_is_refused(
    tiny_model: LanguageModel, fn: Callable[[Tensor], Tensor]
) -> None:
    with (
        pytest.raises(ModelError, match=r"blocks\.0\.hook_resid_post returned torch\..* of shape"),
        edit(tiny_model, HookPoint(0, "hook_resid_post"), fn),
    ):
        logits(tiny_model)


def test_a_hook_point_that_does_not_exist_is_refused_before_anything_is_hooked(
    tiny_model: LanguageModel,
) -> None:
    points = [HookPoint(0, "hook_resid_post"), HookPoint(9, "hook_resid_post")]
    hooks = hook_count(tiny_model.module)
    with pytest.raises(ModelError, match="0 to 3"), record(tiny_model, points):
        pass
    assert hook_count(tiny_model.module) == hooks


def test_a_recording_inside_an_edit_at_the_same_place_sees_the_edited_activation(
    tiny_model: LanguageModel,
) -> None:
    point = HookPoint(2, "hook_resid_post")
    with (
        edit(tiny_model, point, torch.zeros_like),
        record(tiny_model, [point], stop=True) as activations,
    ):
        logits(tiny_model)
    assert torch.equal(activations[point], torch.zeros(2, 6, 16))


def test_stopping_gives_the_same_activations_and_runs_no_layer_above(
    family_model: LanguageModel,
) -> None:
    points = [HookPoint(1, "hook_mlp_out"), HookPoint(0, "hook_resid_pre")]
    with record(family_model, points) as full:
        logits(family_model)
    reached = []

    def spy(x: Tensor) -> Tensor:
        reached.append(1)
        return x

    with edit(family_model, HookPoint(2, "hook_resid_pre"), spy):
        stopped = residuals(family_model, IDS, None, points)
    assert not reached
    assert set(stopped) == set(points)
    assert all(torch.equal(stopped[point], full[point]) for point in points)
    logits(family_model)  # and the model is fit for use afterwards


def test_gradients_flow_to_the_vector_that_an_edit_adds(family_model: LanguageModel) -> None:
    vector = torch.zeros(16, requires_grad=True)
    with edit(family_model, HookPoint(1, "hook_resid_post"), lambda x: x + vector):
        family_model.module(input_ids=IDS).logits[:, -1, 3].sum().backward()
    assert vector.grad is not None
    assert vector.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in family_model.module.parameters())


def test_residuals_from_a_cached_prefix_equal_those_of_the_whole(
    family_model: LanguageModel,
) -> None:
    point = HookPoint(2, "hook_resid_post")
    whole = residuals(family_model, IDS, None, [point])[point]
    cache = DynamicCache(config=family_model.module.config)
    first = residuals(family_model, IDS[:, :4], None, [point], past_key_values=cache)[point]
    rest = residuals(
        family_model,
        IDS[:, 4:],
        torch.ones(2, 6, dtype=torch.long),
        [point],
        past_key_values=cache,
        position_ids=torch.tensor([[4, 5], [4, 5]]),
    )[point]
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_residual_when_positions_are_given(
    family_model: LanguageModel, side: str
) -> None:
    point = HookPoint(3, "hook_resid_post")
    sequences = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3]]
    batch = pad(sequences, "left" if side == "left" else "right", family_model.pad_id)
    padded = residuals(
        family_model,
        batch.input_ids,
        batch.attention_mask,
        [point],
        position_ids=batch.position_ids,
    )[point]
    for row, ids in enumerate(sequences):
        alone = residuals(family_model, torch.tensor([ids]), None, [point])[point][0]
        tokens = padded[row][batch.attention_mask[row].bool()]
        torch.testing.assert_close(tokens, alone, rtol=1e-4, atol=1e-4)
