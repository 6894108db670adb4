"""Matching pursuit: the features that together build the gradient's direction.

Greedy, as in Mallats and Zhang (1993) with the coefficients refitted at each step (orthogonal
matching pursuit), under one constraint of the receipt: a feature may only be used in the direction
in which its own pairs differ, and only where that difference is clear of zero.
"""

import torch
from scipy.optimize import nnls
from torch import Tensor

from trimtab.selector.parts import Choice, Parts
from trimtab.selector.rankers.evidence import Evidence

MAX_FEATURES = 64
MIN_T = 2.0  # a feature's mean difference must be this many standard errors from zero
MAX_COEFFICIENT = 10.0  # times the median coefficient: no feature rests on a sliver of a difference


def usable(parts: Parts) -> Tensor:
    """Return which features differ clearly between the sides, `(d_sae,)` bool."""
    assert parts.features is not None
    if parts.n_samples < 2:
        return parts.features[0].bool()
    error = parts.features.std(0) / parts.n_samples**0.5
    mean = parts.features.mean(0)
    clear: Tensor = (mean.abs() >= MIN_T * error) & (mean != 0)
    return clear


def features(evidence: Evidence) -> Tensor:
    """Score features by the step at which the pursuit takes them, `(d_sae,)`."""
    atoms = evidence.decoder * evidence.feature_differences.mean(0).sign()[:, None]
    atoms = torch.nn.functional.normalize(atoms, dim=1)
    target = evidence.gradient / evidence.gradient.norm().clamp_min(1e-12)
    allowed = usable(evidence.parts)
    scores = torch.full((len(atoms),), -torch.inf)
    chosen: list[int] = []
    rest = target
    for step in range(MAX_FEATURES):
        gains = (atoms @ rest).masked_fill(~allowed, -torch.inf)
        best = int(gains.argmax())
        if gains[best] <= 1e-6:
            break
        allowed[best] = False
        chosen.append(best)
        scores[best] = MAX_FEATURES - step
        basis = atoms[chosen].T.double().numpy()
        weights, _ = nnls(basis, target.double().numpy())
        rest = target - torch.from_numpy(basis @ weights).float()
    return scores


def matched(parts: Parts, choice: Choice, target: Tensor) -> Choice:
    """Return `choice` with the coefficients that bring its vector nearest the target's direction.

    Features whose best coefficient is zero, or whose difference over the chosen samples has the
    wrong sign or is none, are dropped. Where nothing is left the choice is returned as it was.
    Coefficients are cut at `MAX_COEFFICIENT`, and what is cut may point away from the target: it is
    to be measured before it is chosen.
    """
    assert parts.decoder is not None and parts.features is not None and choice.features is not None
    chosen = list(choice.features)
    terms = parts.features[list(choice.samples)][:, chosen].mean(0)[:, None] * parts.decoder[chosen]
    weights, _ = nnls(terms.T.double().numpy(), (target / target.norm()).double().numpy())
    kept = [(f, float(w)) for f, w in zip(chosen, weights, strict=True) if w > 0]
    if not kept:
        return choice
    unit = float(torch.tensor([w for _, w in kept]).median())
    return Choice(
        choice.samples,
        tuple(f for f, _ in kept),
        tuple(min(w / unit, MAX_COEFFICIENT) for _, w in kept),
    )
