"""What does an animal become when features of a relative are added to it?

At the last token of “The dog” are added the features that the relative has and the dog has not, or
has less, as strongly as they differ. What follows asks for the classes of each attribute.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.laboratory import Laboratory
from experiments.record import Row, say
from experiments.successors.answers import among, answers
from experiments.successors.concepts import TEXTS, Domain
from experiments.successors.reading import Reading, Singles, read
from experiments.successors.stand_ins import stand_ins
from trimtab.selector.intervals import mean_estimate, rate_estimate

Floats = NDArray[np.float64]

BEGINNINGS = ("The {}", "As everybody knows, the {}")  # none of the texts that are read
ASKED = {
    "taxonomy": " is a kind of",
    "habitat": " lives in the",
    "diet": " mostly eats",
    "reproduction": " reproduces by",
}
"""By attribute, what its classes complete."""

TAXON, FAMILY, PARENT = "taxonomy", "family", "parent"
RELATIONS = ("sibling", "cousin", "stranger", PARENT)
FEATURES, RANDOM, RESIDUAL = "its features", "random features", "residual"


def kinship_rows(laboratory: Laboratory, domain: Domain) -> Iterator[Row]:
    """Yield what adding relatives does to the classes of each attribute.

    Args:
        laboratory: where the study runs.
        domain: animals, with a taxon, a family, and what `ASKED` asks.
    """
    say(f"relatives of {len(domain.concepts)} {domain.name}")
    kin = Kin(laboratory, domain)
    found = [kin.measured(place) for place in range(len(domain.concepts))]
    for relation in RELATIONS:
        for attribute in ASKED:
            yield from _rows(kin, found, relation, attribute)


@dataclass(frozen=True, eq=False)
class Kin:
    """Animals and their relatives: the place of one in the list, or of the taxon's name behind it.

    Attributes:
        laboratory: where the study runs.
        domain: the animals.
    """

    laboratory: Laboratory
    domain: Domain

    @cached_property
    def words(self) -> list[str]:
        """The animals, and then their taxa."""
        return [*self.domain.concepts, *dict.fromkeys(self.domain.classes[TAXON])]

    @cached_property
    def relatives(self) -> list[dict[str, int]]:
        """Every animal's relatives as places in `words`, drawn where it has several of a sort.

        A sibling is of its family, a cousin of another family of its taxon, a stranger of another
        taxon; the parent is the taxon's name.
        """
        rng = np.random.default_rng(self.laboratory.config.seed)
        taxa, families = (np.array(self.domain.classes[name]) for name in (TAXON, FAMILY))
        found = []
        for place, (taxon, family) in enumerate(zip(taxa, families, strict=True)):
            others = np.arange(len(taxa)) != place
            sorts = {
                "sibling": others & (families == family),
                "cousin": (taxa == taxon) & (families != family),
                "stranger": taxa != taxon,
            }
            some = {
                name: int(rng.choice(np.flatnonzero(m))) for name, m in sorts.items() if m.any()
            }
            found.append(some | {PARENT: self.words.index(taxon, len(taxa))})
        return found

    def classes(self, attribute: str) -> list[str]:
        """Return the classes of an attribute."""
        return list(dict.fromkeys(self.domain.classes[attribute]))

    def class_of(self, place: int, attribute: str) -> int | None:
        """Return which of its attribute's classes a word has; None where it has none."""
        classes = self.classes(attribute)
        if place < len(self.domain.concepts):
            return classes.index(self.domain.classes[attribute][place])
        return classes.index(self.words[place]) if attribute == TAXON else None

    @cached_property
    def reading(self) -> tuple[Reading, Singles, Singles]:
        """Of all words, and the means over texts: of features, and of the residual."""
        texts = [text.format(word) for text in TEXTS for word in self.words]
        reading = read(self.laboratory.model, self.laboratory.sae, texts)
        shape = (len(TEXTS), len(self.words), -1)
        features, residual = reading.features.reshape(shape), reading.residual.reshape(shape)
        return reading, features.mean(0), residual.mean(0)

    def vectors(self, place: int, relative: int) -> dict[str, list[Singles]]:
        """Return what is added to make a relative of an animal, by way, some draws of each.

        All are as long as the first.
        """
        sizes, seed = self.laboratory.sizes, self.laboratory.config.seed
        reading, features, residual = self.reading
        more = features[relative] - features[place]
        chosen = [i for i in np.argsort(-more)[: sizes.features].tolist() if more[i] > 0]
        own = more[chosen] @ reading.directions[chosen]
        rng = np.random.default_rng([seed, place, relative])
        drawn = [stand_ins(reading.features, chosen, rng) for _ in range(sizes.draws)]

        def as_long(vector: Singles) -> Singles:
            scale = np.linalg.norm(own) / max(float(np.linalg.norm(vector)), 1e-9)
            return (scale * vector).astype(np.float32)

        return {
            FEATURES: [own],
            RANDOM: [as_long(more[chosen[: len(one)]] @ reading.directions[one]) for one in drawn],
            RESIDUAL: [as_long(residual[relative] - residual[place])],
        }

    def measured(self, place: int) -> dict[str, dict[str, Floats]]:
        """Return log-probabilities of all classes, by relation and way, `(draws, n_texts, n)`.

        Those without any relative are under the relation `""`.
        """
        kin = self.relatives[place]
        completions = [f"{ASKED[name]} {one}" for name in ASKED for one in self.classes(name)]

        def measure() -> dict[str, dict[str, list[list[list[float]]]]]:
            model, sae = self.laboratory.model, self.laboratory.sae
            added = {relation: self.vectors(place, other) for relation, other in kin.items()}
            flat = [one for ways in added.values() for draws in ways.values() for one in draws]
            texts = [text.format(self.words[place]) for text in BEGINNINGS]
            each = [answers(model, sae, text, completions, flat) for text in texts]
            base, *rest = np.stack(each, axis=1).tolist()
            values = iter(rest)
            found = {
                relation: {way: [next(values) for _ in draws] for way, draws in ways.items()}
                for relation, ways in added.items()
            }
            return found | {"": {"": [base]}}

        key = ("kinship", TEXTS, BEGINNINGS, completions, self.words, place, kin)
        kept = self.laboratory.journal.once(key, measure)
        return {r: {way: np.array(x) for way, x in ways.items()} for r, ways in kept.items()}


def _rows(
    kin: Kin, found: Sequence[dict[str, dict[str, Floats]]], relation: str, attribute: str
) -> Iterator[Row]:
    """Yield a row a way: of animals whose class the relative shares, and of the others."""
    sizes = [len(kin.classes(name)) for name in ASKED]
    first = sum(sizes[: list(ASKED).index(attribute)])
    span = slice(first, first + len(kin.classes(attribute)))
    pairs = [
        (place, own, given)
        for place, relatives in enumerate(kin.relatives)
        if relation in relatives
        and (own := kin.class_of(place, attribute)) is not None
        and (given := kin.class_of(relatives[relation], attribute)) is not None
    ]
    for same in (True, False):
        some = [pair for pair in pairs if (pair[1] == pair[2]) == same]
        if not some:
            continue
        groups = [kin.words[place] for place, _, _ in some]
        base = [among(found[place][""][""][..., span]) for place, _, _ in some]
        knows = np.array(
            [one[0].argmax(-1) == own for one, (_, own, _) in zip(base, some, strict=True)]
        )
        moved: dict[str, Floats] = {}
        for way in (RANDOM, FEATURES, RESIDUAL):
            changes = [
                among(found[place][relation][way][..., span]) - before
                for (place, _, _), before in zip(some, base, strict=True)
            ]
            own, given = (
                np.stack(
                    [one[..., pair[i]].mean(-1) for one, pair in zip(changes, some, strict=True)]
                )
                for i in (1, 2)
            )
            moved[way] = own if same else given - own
            row: Row = {"relation": relation, "attribute": attribute, "added": way}
            row |= {"class": "shared" if same else "another", "animals": len(some)}
            row |= {"known": rate_estimate(knows.astype(np.float64), groups)}
            row["own"] = mean_estimate(own, groups)
            if not same:
                row |= {"given": mean_estimate(given, groups)}
                row |= {"given_against_own": mean_estimate(given - own, groups)}
            if way != RANDOM:
                less = moved[way].mean(1)[:, None] - moved[RANDOM]
                row["beyond_random"] = mean_estimate(less, groups)
            yield row
