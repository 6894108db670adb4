"""Ways to find the features that matter: each returns feature indices, what matters most first."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.subject import Subject
from trimtab.selector.exploration.gates import gate_path
from trimtab.selector.parts import Choice, terms
from trimtab.selector.rankers import FEATURE_RANKERS, Evidence

Order = Callable[["Found"], list[int]]

ACDC_SHARE = 0.002  # of the full effect: a feature whose removal costs less is removed


@dataclass(frozen=True, eq=False)
class Found:
    """A behaviour's feature vector as it is added at the budget, term by term.

    Attributes:
        subject: the behaviour.
        features: those that the vector has, `(n,)`.
        terms: what each adds, `(n, d_model)`, which sums to what is added.
        tested: features that pruning by measurement tries to remove; the rest goes first.
        seed: of the gates.
    """

    subject: Subject
    features: tuple[int, ...]
    terms: Tensor
    tested: int
    seed: int

    def ranked(self, scores: Tensor) -> list[int]:
        """Return positions in `features` by scores `(n,)`, the highest first.

        Those with the same score, such as those that a way never looked at, by their term's length.
        """
        lengths = self.terms.norm(dim=1).tolist()
        by = list(zip(scores.tolist(), lengths, strict=True))
        return sorted(range(len(by)), key=by.__getitem__, reverse=True)

    @property
    def positive(self) -> list[bool]:
        """Whether each feature fires more on the positive side, `(n,)`."""
        assert self.subject.parts.features is not None
        means = self.subject.parts.features.mean(0)[list(self.features)]
        return (means > 0).tolist()


def terms_at_budget(subject: Subject, tested: int, seed: int) -> Found:
    """Return the vector of all features of all pairs, at equal damage."""
    parts = subject.parts
    assert parts.features is not None
    fired = parts.features.mean(0).nonzero().flatten()
    choice = Choice(tuple(range(parts.n_samples)), tuple(fired.tolist()))
    _, each = terms(parts, choice)
    whole = each.sum(0)
    scale = subject.bench.at_budget(whole).norm() / whole.norm()
    return Found(subject, choice.features or (), scale * each, tested, seed)


def by_ranker(name: str) -> Order:
    """Order by one of the package's rankers."""

    def order(found: Found) -> list[int]:
        scores = FEATURE_RANKERS[name](Evidence(found.subject.parts, found.subject.gradient))
        return found.ranked(scores[list(found.features)])

    return order


def attribution_patching(found: Found) -> list[int]:
    """Order by the first-order effect at the unsteered model (Nanda 2023; Syed et al. 2023)."""
    meter = found.subject.bench.meter(found.subject.tune, f"{found.subject.name} tune")
    return found.ranked(found.terms @ meter.gradient(torch.zeros_like(found.terms[0])))


def integrated_gradients(found: Found, steps: int = 4) -> list[int]:
    """Order by the effect along the way to the whole vector (Sundararajan et al. 2017)."""
    meter = found.subject.bench.meter(found.subject.tune, f"{found.subject.name} tune")
    whole = found.terms.sum(0)
    along = [meter.gradient((i + 0.5) / steps * whole) for i in range(steps)]
    return found.ranked(found.terms @ torch.stack(along).mean(0))


def learned_masks(found: Found) -> list[int]:
    """Order by how many penalties hard-concrete gates leave a feature open at."""
    subject = found.subject
    meter = subject.bench.meter(subject.tune, f"{subject.name} tune")
    place = {feature: i for i, feature in enumerate(found.features)}
    scores = torch.zeros(len(place))
    points = gate_path(
        subject.parts,
        found.features,
        meter.gradient,
        lambda v: subject.bench.calibrate(v).multiplier,
        seed=found.seed,
    )
    for point in points:
        scores[[place[feature] for feature in point.choice.features or ()]] += 1.0
    return found.ranked(scores)


def measured_pruning(found: Found) -> list[int]:
    """Remove, measure, keep if it matters: ACDC on features (Conmy et al. 2023).

    From the shortest of the longest terms to the longest; a feature stays removed where that costs
    less than a share of the whole effect. What was kept comes first, by what its removal cost.
    """
    whole = found.subject.tuned(found.terms.sum(0)).mean()
    longest = found.ranked(found.terms.norm(dim=1))
    tried, untried = longest[: found.tested], longest[found.tested :]
    current = found.terms[tried].sum(0)
    effect = found.subject.tuned(current).mean()
    cost, removed = {}, []
    for i in reversed(tried):
        without = found.subject.tuned(current - found.terms[i]).mean()
        if effect - without < ACDC_SHARE * abs(whole):
            current, effect = current - found.terms[i], without
            removed.append(i)
        else:
            cost[i] = effect - without
    kept = sorted(cost, key=lambda i: -cost[i])
    return kept + removed[::-1] + untried


ATTRIBUTION = "attribution patching"
ORDERS: dict[str, Order] = {
    "contrast statistics": by_ranker("contrast"),
    "length of the term": by_ranker("norm"),
    ATTRIBUTION: attribution_patching,
    "integrated gradients": integrated_gradients,
    "pursuit of the gradient": by_ranker("pursuit"),
    "learned masks": learned_masks,
    "remove and measure": measured_pruning,
}


def random_orders(found: Found, draws: int) -> list[list[int]]:
    """Return random orders of the features, the control of every way to find them."""
    generator = torch.Generator().manual_seed(found.seed)
    return [torch.randperm(len(found.features), generator=generator).tolist() for _ in range(draws)]
