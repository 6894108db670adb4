"""What a feature promotes is the plain product of decoder, final norm's gain and unembedding."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trimtab.errors import ModelError
from trimtab.model.families import find_final_norm
from trimtab.model.features.promoted import promoted, through_norm
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE


@pytest.fixture
def trained(family_model: LanguageModel) -> LanguageModel:
    """The model with a final norm whose gain is no longer the one it starts with."""
    module = copy.deepcopy(family_model.module)
    generator = torch.Generator().manual_seed(1)
    for parameter in find_final_norm(module).parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return replace(family_model, module=module)


def plain(model: LanguageModel, directions: Tensor) -> Tensor:
    """Logits of directions, by what is known of each family's norm."""
    norm = find_final_norm(model.module)
    weight = next(norm.parameters())
    kind = model.module.config.model_type
    gain = 1 + weight if kind.startswith("gemma") else weight
    if kind in ("gpt2", "gpt_neox"):
        directions = directions - directions.mean(1, keepdim=True)
    unembedding: Tensor = model.module.get_output_embeddings().weight
    return (directions * gain) @ unembedding.T


def test_promoted_tokens_are_the_largest_of_the_plain_product(
    trained: LanguageModel, tiny_sae: SAE
) -> None:
    logits = plain(trained, tiny_sae.W_dec)
    allowed = torch.ones(logits.shape[1] + 3, dtype=torch.bool)  # the tokenizer may have more
    up, down = promoted(trained, tiny_sae, allowed, 5)
    assert up == logits.topk(5).indices.tolist()
    assert down == (-logits).topk(5).indices.tolist()


def test_a_direction_moves_the_models_own_prediction_as_it_says(trained: LanguageModel) -> None:
    """On a residual that a norm leaves as it is, what is added comes out, but for its rescaling."""
    norm = find_final_norm(trained.module)
    signs = torch.ones(trained.d_model)
    signs[1::2] = -1
    direction = torch.randn(1, trained.d_model, generator=torch.Generator().manual_seed(3))
    direction -= direction.mean()
    direction -= (direction @ signs)[:, None] * signs / trained.d_model  # keeps the length
    moved = (norm(signs + 1e-3 * direction) - norm(signs - 1e-3 * direction)) / 2e-3
    torch.testing.assert_close(through_norm(norm, direction), moved, rtol=1e-2, atol=1e-3)


def test_tokens_that_are_not_allowed_are_not_named(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    allowed = torch.zeros(len(tiny_model.tokenizer), dtype=torch.bool)
    allowed[[7, 30, 200]] = True
    up, down = promoted(tiny_model, tiny_sae, allowed, 8)
    assert all(sorted(ids) == [7, 30, 200] for ids in up)
    assert all(first == second[::-1] for first, second in zip(up, down, strict=True))


def test_a_model_without_its_final_norm_is_refused(tiny_model: LanguageModel) -> None:
    module = copy.deepcopy(tiny_model.module)
    del module.model.norm
    with pytest.raises(ModelError, match=r"no final norm at model\.norm"):
        find_final_norm(module)
