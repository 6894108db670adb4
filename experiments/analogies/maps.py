"""Maps from one behaviour's differences to another's, learnt from a few matched pairs."""

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from torch import Tensor

from experiments.subject import Subject
from trimtab.pairs import Sample


def matched_pairs(one: Subject, other: Subject) -> list[tuple[int, int]]:
    """Return rows of two behaviours whose texts are most alike, each row once, likest first."""
    texts = [[_text(sample) for sample in subject.material.select] for subject in (one, other)]
    words = TfidfVectorizer().fit([*texts[0], *texts[1]])
    alike = (words.transform(texts[0]) @ words.transform(texts[1]).T).toarray()
    rows, columns = linear_sum_assignment(alike, maximize=True)
    order = np.argsort(-alike[rows, columns], kind="stable")
    return [(int(rows[i]), int(columns[i])) for i in order]


def orthogonal(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Turn `at` `(d_model,)` by the rotation that best turns the rows of `x` into those of `y`."""
    turn, _ = orthogonal_procrustes(x.double().numpy(), y.double().numpy())
    return torch.from_numpy(at.double().numpy() @ turn).float()


def linear(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Map `at` `(d_model,)` by ridge regression of the rows of `y` on those of `x`."""
    strength = float(x.double().pow(2).sum(1).mean())  # as strong as one row is long
    model = Ridge(alpha=strength, fit_intercept=False).fit(x.double().numpy(), y.double().numpy())
    return torch.from_numpy(model.predict(at.double().numpy()[None])[0]).float()


def _text(sample: Sample) -> str:
    """A sample's prompt; a raw text has none, and stands for itself."""
    return sample.prompt or " ".join(text for _, text in sample.sides)


MAPS = {"orthogonal map": orthogonal, "linear map": linear}
