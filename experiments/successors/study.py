"""What do sequences share by index, and concepts by class and kinship?

1. Index: features of other kinds' sequences, chosen there, tell the index of an item (successor
   heads, Gould et al. 2023), beside the residual and beside shuffled indices.
2. Steering: what the other kinds have at the next index, less at this one, is added to an item.
   Does the model go on one further, or, the other way round, one less?
3. Classes: does the overlap of concepts' features tell who belongs together, beyond spelling?
4. Kinship: features of a sibling, a cousin, a stranger or the taxon are added to an animal. Which
   of its classes change?
"""

from dataclasses import dataclass

from experiments.checked import Count
from experiments.laboratory import Laboratory
from experiments.record import Row
from experiments.successors.common_features import common_rows
from experiments.successors.concepts import read_domains
from experiments.successors.indices import index_rows
from experiments.successors.kinship import kinship_rows
from experiments.successors.overlap import overlap_rows
from experiments.successors.sequences import PACKAGED, read_sequences
from experiments.successors.steering import steering_rows
from experiments.successors.taught import Taught


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        features: that are chosen: shared by index, or what a relative has more of.
        positions: the first so many indices are told apart.
        moduli: rounds of so many indices, of which the later are told by the first.
        shuffles: of indices, where they are told.
        draws: of random features and of shuffled indices, where they are added.
        permutations: of indices or classes.
        listed: features of an index that are shown.
    """

    features: Count = 32
    positions: tuple[Count, ...] = (7, 12)
    moduli: tuple[Count, ...] = (7, 10)
    shuffles: Count = 20
    draws: Count = 3
    permutations: Count = 1000
    listed: Count = 12


SIZES = Sizes()
LISTS = ("function-vectors/next_item.json", "function-vectors/prev_item.json")


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables."""
    tested = list(PACKAGED)
    if laboratory.data is not None:
        tested = read_sequences(*map(laboratory.file, LISTS))
    taught = Taught(laboratory, tested)
    domains = read_domains()
    animals = next(domain for domain in domains if domain.name == "animals")
    return {
        "index": list(index_rows(taught)),
        "features": list(common_rows(taught)),
        "steering": list(steering_rows(taught)),
        "classes": [row for domain in domains for row in overlap_rows(laboratory, domain)],
        "kinship": list(kinship_rows(laboratory, animals)),
    }
