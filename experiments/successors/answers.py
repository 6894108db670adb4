"""Log-probabilities of a prompt's completions while vectors are added at its last token alone."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

from experiments.benchmark_questions import user
from experiments.completions import Completions
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.selector.intervals import Estimate, rate_estimate
from trimtab.steering.apply import Edit

Floats = NDArray[np.float64]


def answers(
    model: LanguageModel,
    sae: SAE,
    prompt: str,
    completions: Sequence[str],
    vectors: Sequence[NDArray[np.float32]],
) -> Floats:
    """Return log-probabilities, unsteered first, `(1 + n_vectors, n_completions)`, in nats.

    Args:
        model: the language model.
        sae: at whose hook point vectors are added.
        prompt: raw text.
        completions: none may begin with another, or it has both texts' probability.
        vectors: `(d_model,)` each.
    """
    asked = Completions(model, [(user(prompt), completions)], sae.hook_point, chat=False)
    return asked([None, *(at_prompt_end(torch.from_numpy(vector)) for vector in vectors)])


def at_prompt_end(vector: Tensor) -> Edit:
    """Return an edit that adds a vector to the prompt's last token, and to none of the completion.

    That token is the first column of what an edit of completions is given.
    """

    def add(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] + vector.to(x), x[:, 1:]], dim=1)

    return add


def among(log_probabilities: Floats) -> Floats:
    """Return log-probabilities given that it is one of the completions: the last axis."""
    found: Floats = log_softmax(log_probabilities, axis=-1)
    return found


def share_of_items(shown: Floats, groups: Sequence[str]) -> Estimate:
    """Estimate the share of ones over groups of items and draws, on texts that are as they are.

    Args:
        shown: zeros and ones, `(n, draws, n_texts)`.
        groups: of the n items.
    """
    n_texts = shown.shape[2]
    columns = shown.swapaxes(1, 2).reshape(-1, shown.shape[1])
    return rate_estimate(columns, [group for group in groups for _ in range(n_texts)])
