"""What the learned model looks at: a few statistics that mean the same for every behaviour, and the
features themselves.

Statistics compare a row with the mean of other pairs. A pair's own group is left out of that mean,
so that a pair that was learnt from and one that nobody has measured are looked at alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.parts import Parts

STATISTICS = (
    "cosine to the other pairs’ difference",
    "length of its difference",
    "cosine to the other pairs’ features",
    "share of its features’ mass that agrees with the others in sign",
    "number of features that differ",
    "share of its largest feature",
    "share of its length that the SAE sees",
)
COSINE = 0  # its place among them: the simple rival of all that is learned

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """What is seen of n pairs.

    Attributes:
        statistics: `(n, len(STATISTICS))`; without features the last five are 0.
        features: `(n, d_sae)`, every feature's share of the difference, each row of unit length;
            without an SAE `(n, d_model)`, the difference itself.
    """

    statistics: Floats
    features: Floats

    def __len__(self) -> int:
        return len(self.statistics)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "View":
        """Return the view of some of the pairs."""
        return View(self.statistics[rows], self.features[rows])


def view(parts: Parts, groups: Sequence[str]) -> View:
    """Look at pairs that are there, each against those of other groups."""
    residual = _means_without_own(parts.residual, groups)
    features = None if parts.features is None else _means_without_own(parts.features, groups)
    return _view(parts, residual, features)


def view_against(parts: Parts, others: Parts) -> View:
    """Look at pairs against `others`, among which none of them is."""
    features = None if others.features is None else others.features.mean(0, keepdim=True)
    return _view(parts, others.residual.mean(0, keepdim=True), features)


def together(views: Sequence[View]) -> View:
    """Return several views as one."""
    return View(
        np.concatenate([one.statistics for one in views]),
        np.concatenate([one.features for one in views]),
    )


def _view(parts: Parts, residual: Tensor, features: Tensor | None) -> View:
    """Compute a view from the means `(n or 1, d)` that rows are compared with."""
    lengths = parts.residual.norm(dim=1).clamp_min(1e-12)
    typical = residual.norm(dim=1).clamp_min(1e-12)
    columns = [_cosine(parts.residual, residual), (lengths / typical).log()]
    if parts.features is None or parts.decoder is None or features is None:
        columns += [torch.zeros(parts.n_samples)] * (len(STATISTICS) - len(columns))
        rows = parts.residual
    else:
        rows = parts.features * parts.decoder.norm(dim=1)
        mass = parts.features.abs()
        total = mass.sum(1).clamp_min(1e-12)
        agreeing = mass * (parts.features.sign() == features.sign())
        columns += [
            _cosine(parts.features, features),
            agreeing.sum(1) / total,
            (parts.features != 0).sum(1).float().log1p(),
            mass.max(1).values / total,
            (parts.features @ parts.decoder).norm(dim=1) / lengths,
        ]
    unit = torch.nn.functional.normalize(rows, dim=1)
    return View(torch.stack(columns, dim=1).double().numpy(), unit.double().numpy())


def _cosine(rows: Tensor, means: Tensor) -> Tensor:
    return torch.cosine_similarity(rows, means.expand_as(rows), dim=1)


def _means_without_own(rows: Tensor, groups: Sequence[str]) -> Tensor:
    """Return for each row the mean of the rows of other groups, `(n, d)`; of one group, of all."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return rows.mean(0, keepdim=True).expand_as(rows)
    place = torch.from_numpy(index)
    sums = torch.zeros(len(names), rows.shape[1]).index_add_(0, place, rows)
    counts = torch.bincount(place, minlength=len(names))
    means: Tensor = (rows.sum(0) - sums) / (len(rows) - counts)[:, None]
    return means[place]
