"""What an SAE's features do on texts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.model.batch import pad
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import Rendered
from trimtab.model.sae import SAE
from trimtab.model.sinks import text_tokens

BATCH_TOKENS = 1024  # bounds the dense activations


class Activity(NamedTuple):
    """Activations over the completions of texts, attention sinks left out.

    Attributes:
        means: float32 `(n, d_sae)`, over the tokens of each text.
        rates: float64 `(d_sae,)`, share of all tokens that a feature fires on.
        strongest: float32 `(d_sae,)`, at any token.
        at_sinks: bool `(d_sae,)`, whether it fires on an attention sink, in the prompts too.
    """

    means: Tensor
    rates: NDArray[np.float64]
    strongest: Tensor
    at_sinks: Tensor


@torch.no_grad()
def activity(model: LanguageModel, sae: SAE, texts: Sequence[Rendered]) -> Activity:
    """Run texts once, up to the SAE's layer, and say what its features do on them."""
    means = torch.zeros(len(texts), sae.d_sae)
    fired = torch.zeros(sae.d_sae, dtype=torch.int64)
    strongest = torch.zeros(sae.d_sae)
    at_sinks = torch.zeros(sae.d_sae, dtype=torch.bool)
    n_tokens = 0
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].ids))
    while order:
        longest = len(texts[order[-1]].ids)
        some = [order.pop() for _ in range(min(len(order), max(1, BATCH_TOKENS // longest)))]
        batch = pad([texts[i].ids for i in some], "right", model.pad_id, model.device)
        seen = residuals(model, batch.input_ids, batch.attention_mask, [sae.hook_point])
        use = text_tokens(seen[sae.hook_point].float(), batch.attention_mask)
        sinks = seen[sae.hook_point][batch.attention_mask.bool().to(use.device) & ~use]
        if len(sinks):
            at_sinks |= (sae.encode(sinks) > 0).any(0).cpu()
        for row, i in enumerate(some):
            use[row, : texts[i].n_prompt] = False
            found = sae.encode(seen[sae.hook_point][row][use[row]]).float().cpu()
            if len(found):
                means[i] = found.mean(0)
                fired += (found > 0).sum(0)
                strongest = torch.maximum(strongest, found.amax(0))
                n_tokens += len(found)
    return Activity(means, (fired.double() / max(1, n_tokens)).numpy(), strongest, at_sinks)
