"""Attention sinks: tokens whose activations dwarf all others and say nothing about the text."""

from torch import Tensor

SINK_FACTOR = 3.5  # a token this many times the median norm is one


def text_tokens(activations: Tensor, attention_mask: Tensor) -> Tensor:
    """Return which tokens are neither pads nor sinks, bool `(batch, seq)`.

    In the default model the first token has norm 23,500 and the others about 170.

    Args:
        activations: `(batch, seq, d_model)`.
        attention_mask: `(batch, seq)`, 1 on tokens and 0 on pads; at least one token.
    """
    tokens = attention_mask.bool().to(activations.device)
    norms = activations.norm(dim=-1)
    kept: Tensor = tokens & (norms < SINK_FACTOR * norms[tokens].median())
    return kept
