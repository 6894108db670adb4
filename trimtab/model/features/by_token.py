"""A text's strongest features, token by token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import torch

from trimtab.errors import ModelError
from trimtab.model.hooks import residuals
from trimtab.model.sinks import text_tokens
from trimtab.model.token_text import token_text

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

TOKENS_PER_ENCODE = 1024  # bounds the dense activations, as in the store


class Active(TypedDict):
    """A feature and how strong it is."""

    feature: int
    value: float


class Token(TypedDict):
    """A token's place and text, and its strongest features, the strongest first."""

    position: int
    token: str
    features: list[Active]


@torch.inference_mode()
def strongest_features(
    model: "LanguageModel", sae: "SAE", ids: Sequence[int], *, top: int
) -> list[Token]:
    """Run the token ids of one text and return up to `top` features of each token.

    The first token and attention sinks have none: the SAE does not know them.

    Raises:
        ModelError: the text has no token, or more than the model's context.
    """
    longest = model.context
    if not ids or (longest is not None and len(ids) > longest):
        raise ModelError(f"the text has {len(ids)} tokens; {model.name} reads from 1 to {longest}")
    batch = torch.tensor([ids], device=model.device)
    everything = torch.ones_like(batch)
    seen = residuals(model, batch, everything, [sae.hook_point])[sae.hook_point].float()
    use = text_tokens(seen, everything)[0]
    use[0] = False
    tokens: list[Token] = []
    for start in range(0, len(ids), TOKENS_PER_ENCODE):
        span = slice(start, start + TOKENS_PER_ENCODE)
        features = sae.encode(seen[0, span]).float()
        features[~use[span].to(features.device)] = 0
        strongest = features.topk(min(top, sae.d_sae))
        found = zip(strongest.indices.tolist(), strongest.values.tolist(), strict=True)
        for position, (numbers, values) in enumerate(found, start):
            active = zip(numbers, values, strict=True)
            tokens.append(
                {
                    "position": position,
                    "token": token_text(model.tokenizer, [ids[position]]),
                    "features": [{"feature": n, "value": v} for n, v in active if v > 0],
                }
            )
    return tokens
