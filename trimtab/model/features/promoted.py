"""Which tokens a feature's direction makes likelier and unlikelier, through the unembedding.

The direct path of Logit Lens (nostalgebraist, 2020): `W_dec[j]`, scaled by the final norm's gain,
times the unembedding; the layers in between are left out. Only the order counts, so nothing is
subtracted: the mean over the vocabulary is the same for all tokens of a feature, and the mean over
features changed next to nothing where it was tried. What did change the lists is leaving out tokens
that no text uses: their unembeddings are long and win by noise.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trimtab.model.families import find_final_norm

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

FEATURES_AT_ONCE = 256  # 256 features of 50,000 tokens are 50 MB


@torch.inference_mode()
def promoted(
    model: "LanguageModel", sae: "SAE", allowed: Tensor, k: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Return ids of the `k` tokens that each feature promotes, and suppresses, strongest first.

    `allowed` `(vocabulary,)` says which tokens may be named; those that the model has no
    unembedding for (some tokenizers have more tokens) cannot.
    """
    head: Tensor = model.module.get_output_embeddings().weight
    tokens = allowed[: len(head)].nonzero()[:, 0].to(head.device)
    unembedding = head[tokens].float()
    directions = through_norm(find_final_norm(model.module), sae.W_dec).to(head.device)
    k = min(k, len(tokens))
    up, down = [], []
    for start in range(0, len(directions), FEATURES_AT_ONCE):
        logits = directions[start : start + FEATURES_AT_ONCE] @ unembedding.T
        up += tokens[logits.topk(k).indices].tolist()
        down += tokens[logits.topk(k, largest=False).indices].tolist()
    return up, down


def through_norm(norm: nn.Module, directions: Tensor) -> Tensor:
    """What the final norm makes of small `directions` `(n, d_model)`, up to a factor, in float32.

    The gain is measured and not read, because families store it in different ways (Gemma's is
    1 + weight): on entries of ±1, whose mean is 0 and mean square 1, a norm is its gain.
    """
    weight = next(norm.parameters())
    signs = torch.ones(directions.shape[1], dtype=weight.dtype, device=weight.device)
    signs[1::2] = -1
    gain: Tensor = signs.float() * (norm(signs).float() - norm(-signs).float()) / 2
    directions = directions.to(weight.device).float()
    if isinstance(norm, nn.LayerNorm):  # it subtracts the mean; the RMS norms do not
        directions = directions - directions.mean(dim=1, keepdim=True)
    return directions * gain
