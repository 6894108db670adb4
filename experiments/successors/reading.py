"""What the SAE's hook point holds at the last token of a text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from experiments.benchmark_questions import user
from experiments.record import say
from trimtab.model.batch import pad
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render_prompt
from trimtab.model.sae import SAE

TEXTS_AT_ONCE = 64

Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Reading:
    """The last tokens of n texts.

    Attributes:
        residual: `(n, d_model)`.
        features: `(n, fired)`, what each feature adds to the residual: its activation times the
            length of its decoder direction.
        numbers: int64 `(fired,)`, which features these are: those that fire anywhere here.
        directions: `(fired, d_model)`, their decoder directions at unit length.
    """

    residual: Singles
    features: Singles
    numbers: NDArray[np.int64]
    directions: Singles


@torch.no_grad()
def read(model: LanguageModel, sae: SAE, texts: Sequence[str]) -> Reading:
    """Run raw texts up to the SAE's hook point and encode their last tokens."""
    say(f"reading the last tokens of {len(texts)} texts")
    rows = [render_prompt(model, user(text), chat=False) for text in texts]
    lengths = sae.W_dec.float().norm(dim=1)
    residual, features = [], []
    for first in range(0, len(rows), TEXTS_AT_ONCE):
        some = rows[first : first + TEXTS_AT_ONCE]
        batch = pad(some, "right", model.pad_id, model.device)
        found = residuals(
            model, batch.input_ids, batch.attention_mask, [sae.hook_point],
            position_ids=batch.position_ids,
        )[sae.hook_point]  # fmt: skip
        last = found[range(len(some)), [len(row) - 1 for row in some]]
        residual.append(last.float().cpu().numpy())
        features.append(sparse.csr_array((sae.encode(last).float() * lengths).cpu().numpy()))
    every = sparse.vstack(features).tocsc()
    numbers = np.unique(every.nonzero()[1]).astype(np.int64)
    directions = sae.W_dec.float().cpu().numpy()[numbers]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Reading(np.concatenate(residual), every[:, numbers].toarray(), numbers, directions)
