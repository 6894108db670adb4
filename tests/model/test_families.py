import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PhiConfig

from trimtab.errors import ModelError
from trimtab.model.families import FAMILIES, family_of, find_module
from trimtab.model.hook_points import SITES, HookPoint
from trimtab.model.hooks import record
from trimtab.model.language_model import LanguageModel

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [9, 8, 7, 6, 5, 4, 3, 4, 5, 6, 7]])


@pytest.fixture
def everything(family_model: LanguageModel) -> tuple[dict[HookPoint, Tensor], tuple[Tensor, ...]]:
    points = [HookPoint(layer, site) for layer in range(family_model.n_layers) for site in SITES]
    with torch.no_grad(), record(family_model, points) as activations:
        output = family_model.module(input_ids=IDS, output_hidden_states=True)
    return activations, output.hidden_states


def test_residuals_are_the_hidden_states_of_transformers(
    family_model: LanguageModel,
    everything: tuple[dict[HookPoint, Tensor], tuple[Tensor, ...]],
) -> None:
    activations, hidden_states = everything
    for layer in range(family_model.n_layers):
        assert torch.equal(activations[HookPoint(layer, "hook_resid_pre")], hidden_states[layer])
    # the last of the hidden states is taken after the final norm, so it is no residual
    for layer in range(family_model.n_layers - 1):
        post = activations[HookPoint(layer, "hook_resid_post")]
        assert torch.equal(post, hidden_states[layer + 1])


def test_the_residual_after_a_layer_is_the_one_before_plus_attention_plus_mlp(
    family_model: LanguageModel,
    everything: tuple[dict[HookPoint, Tensor], tuple[Tensor, ...]],
) -> None:
    activations, _ = everything
    for layer in range(family_model.n_layers):
        pre, attention, mlp, post = (activations[HookPoint(layer, site)] for site in SITES)
        assert attention.shape == mlp.shape == (2, 11, family_model.d_model)
        assert attention.norm() > 0.1 * pre.norm(), "too weak to tell a wrong module by"
        assert mlp.norm() > 0.1 * pre.norm()
        torch.testing.assert_close(pre + attention + mlp, post, rtol=1e-5, atol=1e-5)


def test_every_family_of_the_table_is_tested(family_model: LanguageModel) -> None:
    assert family_model.module.config.model_type in FAMILIES
    assert {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "gpt_neox"} <= set(
        FAMILIES
    )


def test_another_architecture_is_refused_with_what_was_looked_for() -> None:
    config = PhiConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        bos_token_id=1,
        eos_token_id=2,
    )
    module = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match=r"model_type 'phi'.*looked for.*llama.*gpt_neox"):
        find_module(module, HookPoint(0, "hook_resid_post"))
    with pytest.raises(ModelError, match="not supported"):
        family_of(config)


def test_a_layer_that_the_model_lacks_is_refused_with_the_range(
    family_model: LanguageModel,
) -> None:
    with pytest.raises(ModelError, match=r"blocks\.4\.hook_mlp_out.*4 layers, 0 to 3"):
        find_module(family_model.module, HookPoint(4, "hook_mlp_out"))


def test_a_model_without_its_familys_modules_is_refused_with_their_names(
    tiny_model: LanguageModel,
) -> None:
    bare = torch.nn.Module()
    bare.config = tiny_model.module.config
    with pytest.raises(ModelError, match=r"looked for model\.layers"):
        find_module(bare, HookPoint(0, "hook_resid_post"))
    bare.model = torch.nn.Module()
    bare.model.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    with pytest.raises(ModelError, match="looked for self_attn in Linear"):
        find_module(bare, HookPoint(0, "hook_attn_out"))
