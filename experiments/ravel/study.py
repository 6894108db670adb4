"""Which features, or directions, hold one attribute of an entity and no other?

RAVEL (Huang et al. 2024, https://arxiv.org/abs/2402.17700). A base entity's residual, at the
entity's last token, is given something of another entity's, in the same template. Of what is given
for an attribute

- cause: the share of its prompts that are answered with the source's value;
- isolation: the share of the other attributes' prompts that still are with the base's, where the
  two differ, so that a change could show.

What is given is found on training entities and prompts, its size is chosen on validation ones by
the product of the two, and figures are of test ones. Only prompts that the model answers count.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.checked import Count
from experiments.laboratory import Laboratory
from experiments.ravel.answers import answered_pairs
from experiments.ravel.contest import Contest, Pairs
from experiments.ravel.domain import SPLITS, Domain, read_domain
from experiments.ravel.methods import METHODS
from experiments.ravel.scores import scores
from experiments.record import Row
from trimtab.selector.intervals import Estimate, share_estimate


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        domains: as their files have them.
        entities: at most so many are drawn of a split.
        templates: at most so many of an attribute are drawn of a split.
        pairs: at most so many of an attribute, for training, validation and test.
        enough: test pairs without which nothing is said of an attribute.
        features: numbers of features to choose from.
        dimensions: numbers of directions to choose from.
        subspace: directions of the trained subspace, and of the one that the pursuit aims at.
        steps: of training.
        batch: pairs of a step, of this attribute and of another.
        draws: of random features.
    """

    domains: tuple[str, ...] = ("city", "verb")
    entities: Count = 240
    templates: Count = 8
    pairs: tuple[Count, Count, Count] = (120, 40, 240)
    enough: Count = 200
    features: tuple[Count, ...] = (4, 16, 64, 256)
    dimensions: tuple[Count, ...] = (1, 4, 16, 64)
    subspace: Count = 16
    steps: Count = 60
    batch: Count = 12
    draws: Count = 2


SIZES = Sizes()
AVERAGED = "all, averaged"


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables.

    Raises:
        SelectionError, PairsError: the folder of data lacks a domain's files, or they are others.
    """
    kept: list[Row] = []
    scored: list[Row] = []
    for domain in [read_domain(name, laboratory.file) for name in laboratory.sizes.domains]:
        pairs, rows = _kept(laboratory, domain)
        kept += rows
        enough = list(pairs["test"])
        for row in rows:
            if row["attribute"] not in enough:
                why = "cannot tell of {n} test, {train} training and {validation} validation pairs"
                scored.append(_untold(row, why.format(**row)))
            elif len(enough) == 1:
                scored.append(_untold(row, "cannot tell without a second attribute"))
        if len(enough) > 1:
            scored += _scored(Contest(laboratory, domain.name, pairs))
    return {"kept": kept, "scores": scored}


def _untold(row: Row, why: str) -> Row:
    name = {"domain": row["domain"], "attribute": row["attribute"], "method": ""}
    return name | {"features": None, "dimensions": None, "cause": Estimate(None, reason=why)}


def _kept(laboratory: Laboratory, domain: Domain) -> tuple[Pairs, list[Row]]:
    """Return the pairs of the attributes that are answered often enough, and a row each of all."""
    sizes: Sizes = laboratory.sizes
    most = dict(zip(SPLITS, sizes.pairs, strict=True))
    pairs: Pairs = {split: {} for split in SPLITS}
    rows = []
    for attribute in domain.templates:
        test, asked, answered = answered_pairs(laboratory, domain, attribute, "test", most["test"])
        found = {"test": test}
        if len(test) >= sizes.enough:
            for split in ("train", "val"):
                found[split], *_ = answered_pairs(laboratory, domain, attribute, split, most[split])
        enough = all(found.get(split) for split in SPLITS)
        if enough:
            for split in SPLITS:
                pairs[split][attribute] = found[split]
        bases = [base for base, _ in test]
        rows.append(
            {
                "domain": domain.name,
                "attribute": attribute,
                "asked": asked,
                "answered": share_estimate(answered, asked),
                "n": len(test),
                "templates": len({base.template for base in bases}),
                "entities": len({base.entity for base in bases}),
                "values": len({base.value for base in bases}),
                "train": len(found.get("train", [])),
                "validation": len(found.get("val", [])),
                "enough": "yes" if enough else "no",
            }
        )
    return pairs, rows


def _scored(contest: Contest) -> Iterator[Row]:
    """Yield a row an attribute and method, and one a method of all attributes."""
    seed = contest.laboratory.config.seed
    attributes = list(contest.pairs["test"])
    found = {name: contest.measured(name) for name in attributes}
    for method in METHODS:
        for name in attributes:
            given, measured = found[name][method]
            row = {"domain": contest.domain, "attribute": name, "method": method}
            yield row | given | scores([measured], seed)
        every = [found[name][method][1] for name in attributes]
        row = {"domain": contest.domain, "attribute": AVERAGED, "method": method}
        yield row | scores(every, seed)
