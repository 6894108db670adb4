"""Does the overlap of concepts' features tell which of them belong together?

For every concept: how probable is it that one of its own class overlaps more with it than one of
another class? The mean over concepts is the area under the curve, 0.5 by chance.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import cosine_similarity

from experiments.laboratory import Laboratory
from experiments.record import Row, say
from experiments.successors.concepts import TEXTS, Domain
from experiments.successors.reading import read
from trimtab.selector.intervals import Estimate, mean_estimate

Floats = NDArray[np.float64]

FORM = ("spelling", "number of letters", "number of tokens")
"""Likeness of the words themselves: shared trigrams, and as many letters or tokens."""


def overlap_rows(laboratory: Laboratory, domain: Domain) -> Iterator[Row]:
    """Yield how well each overlap tells each attribute's classes.

    Attributes after the first are asked again within the classes of the first: animals that live in
    one place are often of one taxon.
    """
    say(f"overlap of {domain.name}")
    kept = laboratory.journal.once(
        ("overlap", TEXTS, domain.concepts), lambda: _overlaps(laboratory, domain)
    )
    overlaps = {name: np.array(rows) for name, rows in kept.items()}
    forms = [overlaps[name] for name in FORM]
    main, *others = domain.classes
    asked = [(main, "")] + [(name, within) for name in others for within in ("", main)]
    for attribute, within in asked:
        labels = np.array(domain.classes[attribute])
        strata = np.array(domain.classes[within] if within else [""] * len(labels))
        if np.isnan(area(ranked(np.zeros((len(labels),) * 2), strata), labels)).all():
            continue  # within the main classes all are of one class
        for name, overlap in overlaps.items():
            row: Row = {"domain": domain.name, "attribute": attribute, "within": within}
            row |= {"overlap": name}
            ways = {"": overlap}
            if name not in FORM:
                ways["_beyond_form"] = less_form(overlap, forms)
            for suffix, values in ways.items():
                found = _told(values, labels, strata, domain, laboratory)
                row |= {f"{what}{suffix}": value for what, value in found.items()}
            yield row


def _overlaps(laboratory: Laboratory, domain: Domain) -> dict[str, list[list[float]]]:
    """Return the overlaps of all pairs of concepts, by name, `(n, n)` each."""
    model = laboratory.model
    texts = [text.format(concept) for text in TEXTS for concept in domain.concepts]
    reading = read(model, laboratory.sae, texts)
    n = len(domain.concepts)
    residual, features = (
        rows.reshape(len(TEXTS), n, -1) for rows in (reading.residual, reading.features)
    )
    fires = (features > 0).mean(0) > 0.5
    letters = [len(concept) for concept in domain.concepts]
    tokens = [len(model.tokenizer(f" {concept}").input_ids) for concept in domain.concepts]
    trigrams = [_trigrams(concept) for concept in domain.concepts]
    spelling = [[len(a & b) / len(a | b) for b in trigrams] for a in trigrams]
    means = [rows.mean(0) - rows.mean((0, 1)) for rows in (features, residual)]
    return {
        "features, Jaccard": (1 - pairwise_distances(fires, metric="jaccard")).tolist(),
        "features, cosine": cosine_similarity(means[0]).tolist(),
        "residual, cosine": cosine_similarity(means[1]).tolist(),
        "spelling": spelling,
        "number of letters": [[-float(abs(a - b)) for b in letters] for a in letters],
        "number of tokens": [[-float(abs(a - b)) for b in tokens] for a in tokens],
    }


def _trigrams(word: str) -> set[str]:
    spaced = f" {word.lower()} "
    return {spaced[i : i + 3] for i in range(len(spaced) - 2)}


def less_form(overlap: Floats, forms: list[Floats]) -> Floats:
    """Return what is left of an overlap `(n, n)` when the words' likeness explains what it can.

    By least squares over pairs of concepts.
    """
    pairs = ~np.eye(len(overlap), dtype=bool)
    known = np.stack([np.ones(pairs.sum()), *(form[pairs] for form in forms)], axis=1)
    weights, *_ = np.linalg.lstsq(known, overlap[pairs], rcond=None)
    left = np.zeros_like(overlap)
    left[pairs] = overlap[pairs] - known @ weights
    return left


def _told(
    overlap: Floats,
    labels: NDArray[np.str_],
    strata: NDArray[np.str_],
    domain: Domain,
    laboratory: Laboratory,
) -> Row:
    """Return the area under the curve, and what it is when classes are exchanged within strata."""
    ranks = ranked(overlap, strata)
    areas = area(ranks, labels)
    asked = ~np.isnan(areas)
    rng = np.random.default_rng(laboratory.config.seed)
    by_chance = []
    for _ in range(laboratory.sizes.permutations):
        exchanged = labels.copy()
        for stratum in np.unique(strata):
            exchanged[strata == stratum] = rng.permutation(labels[strata == stratum])
        by_chance.append(float(np.nanmean(area(ranks, exchanged))))
    low, high = np.quantile(by_chance, (0.025, 0.975))
    mean = float(areas[asked].mean())
    above = sum(one >= mean for one in by_chance)
    names = [name for name, one in zip(domain.concepts, asked, strict=True) if one]
    return {
        "concepts": len(names),
        "area": mean_estimate(areas[asked], names),
        "by_chance": Estimate(float(np.mean(by_chance)), float(low), float(high)),
        "p": (1 + above) / (1 + len(by_chance)),
    }


def ranked(overlap: Floats, strata: NDArray[np.str_]) -> Floats:
    """Return every row's ranks among the other concepts of its stratum, NaN elsewhere."""
    compared = (strata[:, None] == strata) & ~np.eye(len(strata), dtype=bool)
    found: Floats = rankdata(np.where(compared, overlap, np.nan), axis=1, nan_policy="omit")
    return found


def area(ranks: Floats, labels: NDArray[np.str_]) -> Floats:
    """Return each concept's area under the curve, `(n,)`; NaN where one of the sides is empty.

    Args:
        ranks: of the concepts that each is compared with, `(n, n)`, NaN of others.
        labels: the concepts' classes.
    """
    same = (labels[:, None] == labels) & ~np.isnan(ranks)
    own = same.sum(1)
    others = (~np.isnan(ranks)).sum(1) - own
    wins = np.where(same, ranks, 0.0).sum(1) - own * (own + 1) / 2
    both = (own > 0) & (others > 0)
    found: Floats = np.where(both, wins / np.where(both, own * others, 1), np.nan)
    return found
