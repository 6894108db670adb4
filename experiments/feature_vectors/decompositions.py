"""Ways to write a dense vector as a few features of an SAE; each gives `(d_model,)` float32.

Coefficients may have either sign here: how near a dictionary comes to a vector is asked, not what
the pairs' own differences allow.
"""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import orthogonal_mp
from torch import Tensor

from trimtab.model.sae import SAE
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.rankers import FEATURE_RANKERS, Evidence

Decompose = Callable[[Parts, SAE, Tensor, int], Tensor]


def differences(parts: Parts, _sae: SAE, dense: Tensor, atoms: int) -> Tensor:
    """Return the mean feature differences of the `atoms` features with the longest terms."""
    lengths = FEATURE_RANKERS["norm"](Evidence(parts, dense))
    kept = lengths.topk(min(atoms, len(lengths))).indices
    return compose(parts, Choice(tuple(range(parts.n_samples)), tuple(kept.tolist())))


def encoder(_parts: Parts, sae: SAE, dense: Tensor, atoms: int) -> Tensor:
    """Return the strongest features that the SAE sees in the vector, as if it were an activation.

    It is not one: its length and mean are others, and a feature cannot be negative (Mayne et al.
    2024, https://arxiv.org/abs/2411.08790).
    """
    seen = sae.encode(dense.to(sae.W_dec))
    kept = seen.topk(min(atoms, len(seen)))
    return (kept.values @ sae.W_dec[kept.indices]).float().cpu()


def least_squares(_parts: Parts, sae: SAE, dense: Tensor, atoms: int) -> Tensor:
    """Return the least-squares fit on the `atoms` directions that point most along the vector."""
    directions = sae.W_dec.detach().float().cpu()
    cosines = torch.nn.functional.cosine_similarity(directions, dense[None], dim=1)
    basis = directions[cosines.abs().topk(atoms).indices].T.double().numpy()
    weights = np.linalg.lstsq(basis, dense.double().numpy(), rcond=None)[0]
    return torch.from_numpy(basis @ weights).float()


def matching_pursuit(_parts: Parts, sae: SAE, dense: Tensor, atoms: int) -> Tensor:
    """Return the orthogonal matching pursuit of the vector (Mallat and Zhang 1993)."""
    directions = torch.nn.functional.normalize(sae.W_dec.detach().float().cpu(), dim=1)
    basis = directions.T.double().numpy()
    weights = orthogonal_mp(basis, dense.double().numpy(), n_nonzero_coefs=atoms)
    return torch.from_numpy(basis @ weights).float()


DECOMPOSITIONS: dict[str, Decompose] = {
    "mean feature differences": differences,
    "encoder": encoder,
    "least squares": least_squares,
    "matching pursuit": matching_pursuit,
}
