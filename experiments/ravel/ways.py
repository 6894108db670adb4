"""Ways to find what holds an attribute, on the training pairs.

A part of the residual holds an attribute if its interchange makes the model answer prompts of that
attribute with the source's value, and leaves the answers to all other prompts alone.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from experiments.ravel.changes import Change
from experiments.ravel.interchange import Interchanges
from trimtab.model.sae import SAE

PAIRS_PER_GRADIENT = 32  # bounds the memory of a pass that gradients flow through
RIDGE = np.logspace(-3, 3, 7)  # penalties, of the mean variance of a dimension times samples
MASK_PENALTY = 0.01  # nats for each feature that an interchange changes
MASK_RATE, ROTATION_RATE = 0.1, 0.01  # of Adam
COLDEST = 0.1  # temperature of the masks at the last step; 1 at the first


@dataclass(frozen=True, eq=False)
class Lesson:
    """What an attribute is found by.

    Attributes:
        sae: whose features there are.
        own: training pairs of the attribute.
        others: those of the other attributes.
        steps: of training.
        batch: pairs of a step, as many of the attribute as of another.
        seed: of the batches.
    """

    sae: SAE
    own: Interchanges
    others: Sequence[Interchanges]
    steps: int
    batch: int
    seed: int

    def differences(self, pairs: Interchanges) -> Tensor:
        """Return what sources' features have beyond those of bases, `(n, d_sae)`."""
        base, source = pairs.residuals
        return self.sae.encode(source) - self.sae.encode(base)


def by_attribution(lesson: Lesson) -> list[int]:
    """Order features by how they move this attribute's answers and no other's, to first order.

    Attribution patching (Nanda 2023; Syed et al. 2023) of the odds of the source's value, less the
    mean size of the same on the other attributes' prompts. What is not above zero is left out.
    """
    others = [_attributed(lesson, pairs).abs() for pairs in lesson.others]
    scores = _attributed(lesson, lesson.own) - torch.stack(others).mean(0)
    return [i for i in scores.argsort(descending=True).tolist() if scores[i] > 0]


def by_pursuit(lesson: Lesson, basis: Tensor, most: int) -> list[int]:
    """Order features as matching pursuit of the probe's part of the difference takes them.

    Each step takes the feature whose interchange brings the sum over training pairs nearest; its
    coefficient is 1, as in an interchange. It ends where no feature brings it nearer.

    Args:
        lesson: the training pairs.
        basis: of the probe's subspace, `(k, d_model)`.
        most: features to take.
    """
    base, source = lesson.own.residuals
    atoms = lesson.sae.W_dec
    coefficients = lesson.differences(lesson.own)
    rest = ((source - base) @ basis.T @ basis).to(atoms) @ atoms.T  # products with each atom
    lengths = (coefficients**2).sum(0) * (atoms**2).sum(1)
    chosen: list[int] = []
    for _ in range(most):
        gains = 2 * (coefficients * rest).sum(0) - lengths
        gains[chosen] = -torch.inf
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        chosen.append(best)
        rest = rest - torch.outer(coefficients[:, best], atoms @ atoms[best])
    return chosen


def by_masks(lesson: Lesson) -> list[int]:
    """Return the features that a trained mask leaves open.

    A sigmoid a feature, ever colder, so that it ends at 0 or 1: differential binary masking (De Cao
    et al. 2020, https://arxiv.org/abs/2004.14992), which RAVEL compares too.
    """
    often = (lesson.differences(lesson.own) != 0).float().mean(0)
    gates = torch.zeros_like(often, requires_grad=True)

    def opened(progress: float) -> Tensor:
        return torch.sigmoid(gates / COLDEST**progress)

    def change(progress: float) -> Change:
        def added(base: Tensor, source: Tensor) -> Tensor:
            difference = lesson.sae.encode(source) - lesson.sae.encode(base)
            return ((difference * opened(progress)) @ lesson.sae.W_dec).to(base)

        return added

    def penalty(progress: float) -> Tensor:
        return MASK_PENALTY * (opened(progress) * often).sum()

    _train(lesson, gates, MASK_RATE, change, penalty)
    return ((gates > 0) & (often > 0)).nonzero().flatten().tolist()


def principal(lesson: Lesson, count: int) -> Tensor:
    """Return the principal components of all entities' residuals, `(count, d_model)`."""
    x = torch.cat([x for pairs in (lesson.own, *lesson.others) for x in pairs.residuals])
    basis: Tensor = torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:count]
    return basis


def probe(lesson: Lesson, count: int) -> Tensor:
    """Return the leading directions that a ridge probe reads the value by, `(k, d_model)`.

    The probe is regressed on one column a value; `k` is `count`, or the rank where that is less.
    """
    pairs, residuals = lesson.own.pairs, lesson.own.residuals
    rows = {
        example: x
        for side, found in enumerate(residuals)
        for example, x in zip((pair[side] for pair in pairs), found, strict=True)
    }
    x = torch.stack(list(rows.values())).double().cpu().numpy()
    values, column = np.unique([example.value for example in rows], return_inverse=True)
    x = x - x.mean(0)
    read = RidgeCV(RIDGE * (x**2).sum() / x.shape[1]).fit(x, np.eye(len(values))[column]).coef_
    rank = min(count, len(values) - 1)
    basis = np.linalg.svd(read, full_matrices=False)[2][:rank]
    return torch.from_numpy(basis).to(residuals[0])


def rotation(lesson: Lesson, count: int) -> Tensor:
    """Return a subspace `(k, d_model)` trained to hold this attribute and no other.

    Distributed alignment search with RAVEL's two losses (MDAS). It begins at the probe's subspace,
    filled up with principal components where the probe has fewer directions.
    """
    start = torch.cat([probe(lesson, count), principal(lesson, count)])[:count]
    weights = start.T.clone().requires_grad_(True)

    def basis() -> Tensor:
        turned: Tensor = torch.linalg.qr(weights)[0].T
        return turned

    def change(_progress: float) -> Change:
        rows = basis()
        return lambda base, source: (source - base) @ rows.T @ rows

    _train(lesson, weights, ROTATION_RATE, change, lambda _: torch.zeros(()))
    return basis().detach()


def _attributed(lesson: Lesson, pairs: Interchanges) -> Tensor:
    """Mean first-order change of the odds of the source's value by each feature, `(d_sae,)`."""
    gradients: list[Tensor] = []
    for rows in torch.split(torch.arange(len(pairs)), PAIRS_PER_GRADIENT):
        nothing = torch.zeros_like(pairs.residuals[0][rows], requires_grad=True)
        odds = pairs.outcomes(rows, nothing).odds
        gradients += torch.autograd.grad(odds.sum(), nothing)
    along = torch.cat(gradients).to(lesson.sae.W_dec) @ lesson.sae.W_dec.T
    return (lesson.differences(pairs) * along).mean(0)


def _train(
    lesson: Lesson,
    weights: Tensor,
    rate: float,
    change: Callable[[float], Change],
    penalty: Callable[[float], Tensor],
) -> None:
    """Train towards the source's value on this attribute's prompts and the base's on others'.

    `change` and `penalty` are told how far it has come, from 0 to 1.
    """
    optimiser = torch.optim.Adam([weights], lr=rate)
    draws = random.Random(lesson.seed)
    for step in range(lesson.steps):
        progress = step / max(1, lesson.steps - 1)
        loss = penalty(progress).to(weights)
        for pairs in (lesson.own, draws.choice(lesson.others)):
            rows = pairs.batch(lesson.batch, draws)
            base, source = (x[rows] for x in pairs.residuals)
            outcomes = pairs.outcomes(rows, change(progress)(base, source))
            wanted = outcomes.source if pairs is lesson.own else outcomes.base
            loss = loss - wanted.mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
