"""Logits made of final states are the model's own, whole or of a few tokens."""

import torch
from torch import Tensor, nn

from trimtab.model.language_model import LanguageModel
from trimtab.model.unembed import logits, token_logits

IDS = torch.tensor([[1, 30, 41, 52, 63, 74, 85, 96]])


def read(model: LanguageModel) -> tuple[Tensor, Tensor]:
    """Final states `(7, d_model)` and the model's own logits after them."""
    with torch.no_grad():
        states = model.module.base_model(input_ids=IDS).last_hidden_state[0, 1:]
        return states, model.module(input_ids=IDS).logits[0, 1:]


def test_logits_are_the_models_own(family_model: LanguageModel) -> None:
    states, own = read(family_model)
    assert torch.allclose(logits(family_model, states), own, atol=1e-5)


def test_a_few_tokens_logits_are_those_of_the_whole(family_model: LanguageModel) -> None:
    states, own = read(family_model)
    tokens = torch.tensor([5, 300, 5, 0, 17, 99, 250])
    found = token_logits(family_model, torch.stack([states, 2 * states]), tokens)
    assert found.shape == (2, 7)
    assert torch.allclose(found[0], own[torch.arange(7), tokens], atol=1e-4)


def test_an_unembedding_may_have_a_bias(tiny_model: LanguageModel) -> None:
    states, own = read(tiny_model)
    head = tiny_model.module.get_output_embeddings()
    bias = torch.linspace(-1, 1, own.shape[-1])
    head.bias = nn.Parameter(bias, requires_grad=False)
    try:
        tokens = torch.arange(7) * 50
        found, few = logits(tiny_model, states), token_logits(tiny_model, states, tokens)
    finally:
        head.bias = None
    assert torch.allclose(found, own + bias, atol=1e-5)
    assert torch.allclose(few, (own + bias)[torch.arange(7), tokens], atol=1e-4)
