"""What do pictures of the space show, and is it more than labels dealt out at random would show?

Every completion is a point, by its pooled residual and by its pooled SAE features. Pictures are the
plane of the first two principal components, t-SNE, and the mapper graph; each is coloured by
behaviour, by side, and by influence (the infinitesimal jackknife's share of the pair in its
behaviour's effect on tuning pairs). Each colour of each picture has a number, and the same number
with the labels dealt out anew; beside them a linear probe, in all dimensions, on unseen groups.

Mapper graphs are compared with each other by optimal transport: positive sides with negative ones,
and held-out completions at a later layer before and after steering and ablation.
"""

from dataclasses import dataclass

from experiments.checked import Count, Positive
from experiments.laboratory import Laboratory
from experiments.pictures.points import read_points
from experiments.pictures.space import Space, pictures
from experiments.pictures.steering import before_and_after
from experiments.record import Row
from experiments.subject import Subject
from trimtab.errors import SelectionError, TrimtabError
from trimtab.model.hook_points import HookPoint
from trimtab.selector.attribution import Game, jackknife


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        components: principal components in which t-SNE and mapper graphs see points.
        perplexity: of t-SNE.
        cubes: squares of a mapper graph's cover along each axis.
        covers: numbers of them that the mapper graph of all points is also made with.
        overlap: share of a square's side that the next one covers too.
        quantile: of distances to the second nearest neighbour; clusters reach so far.
        shuffles: times that labels are dealt out anew; p cannot be below 1 / (1 + shuffles).
        depth: of the later layer, as a share of the model's layers.
        ablated: features that are set to zero.
        draws: of random directions and features.
    """

    components: Count = 50
    perplexity: Positive = 30.0
    cubes: Count = 6
    covers: tuple[Count, ...] = (4, 6, 8, 10)
    overlap: float = 0.5
    quantile: float = 0.9
    shuffles: Count = 59
    depth: float = 0.75
    ablated: Count = 16
    draws: Count = 3


SIZES = Sizes()
TABLES = ("points", "nodes", "edges", "numbers", "distances", "covers", "steering")


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables.

    Raises:
        SelectionError: the later layer is not beyond the SAE's, or there are too few completions
            for a mapper graph.
    """
    later = later_point(laboratory)
    subjects = list(laboratory.subjects())
    influence: dict[tuple[str, str], float] = {}
    for subject in subjects:
        try:
            influence |= influence_of(subject)
        except TrimtabError as error:
            laboratory.fail(f"{subject.name}, influence", error)
    points, rows = read_points(laboratory.store, influence)
    tables: dict[str, list[Row]] = {name: [] for name in TABLES}
    for name in rows:
        for table, found in pictures(Space(name, points, rows[name], laboratory)).items():
            tables[table] += found
    for subject in subjects:
        try:
            for table, found in before_and_after(subject, laboratory, later).items():
                tables[table] += found
        except TrimtabError as error:
            laboratory.fail(f"{subject.name}, before and after", error)
    return tables


def later_point(laboratory: Laboratory) -> HookPoint:
    """Return where completions are read under steering.

    Raises:
        SelectionError: it is not beyond the SAE's layer.
    """
    layer = int(laboratory.sizes.depth * laboratory.model.n_layers)
    if not laboratory.sae.hook_point.layer < layer < laboratory.model.n_layers:
        raise SelectionError(
            f"sizes.pictures: depth {laboratory.sizes.depth} is layer {layer}; it must be beyond "
            f"the SAE's, {laboratory.sae.hook_point.layer}, and below {laboratory.model.n_layers}"
        )
    return HookPoint(layer, "hook_resid_post")


def influence_of(subject: Subject) -> dict[tuple[str, str], float]:
    """Return the influence of the samples that vectors are made of, by behaviour and id.

    It is the infinitesimal jackknife's: the derivative of the dense vector's effect on the tuning
    pairs, at the budget, by the sample's weight.
    """
    multiplier = float(subject.bench.at_budget(subject.dense).norm() / subject.dense.norm())
    meter = subject.bench.meter(subject.tune, f"{subject.name} tune")
    scores = jackknife.samples(Game(subject.parts, meter, multiplier))
    ids = subject.parts.sample_ids
    return {(subject.name, one): score for one, score in zip(ids, scores.tolist(), strict=True)}
