"""Logits from the final states: of the whole vocabulary, or of a few tokens only."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel


def logits(model: "LanguageModel", states: Tensor) -> Tensor:
    """Logits `(..., vocabulary)` of final states `(..., d_model)`, in the model's dtype.

    Final states are those after the final norm, what the unembedding reads.
    """
    weight, bias = _head(model)
    return _capped(model, linear(states.to(weight.device), weight, bias))


def token_logits(model: "LanguageModel", states: Tensor, tokens: Tensor) -> Tensor:
    """Logits `(..., n)` float32 of a token each, `(n,)` int64, after states `(..., n, d_model)`.

    Only those tokens' rows of the unembedding are read.
    """
    weight, bias = _head(model)
    tokens = tokens.to(weight.device)
    products = torch.einsum(
        "...nd,nd->...n", states.to(weight.device).float(), weight[tokens].float()
    )
    return _capped(model, products if bias is None else products + bias[tokens].float())


def _head(model: "LanguageModel") -> tuple[Tensor, Tensor | None]:
    head = model.module.get_output_embeddings()
    return head.weight, getattr(head, "bias", None)


def _capped(model: "LanguageModel", values: Tensor) -> Tensor:
    """Gemma squashes its logits."""
    cap = getattr(model.module.config.get_text_config(), "final_logit_softcapping", None)
    return values if cap is None else cap * torch.tanh(values / cap)
