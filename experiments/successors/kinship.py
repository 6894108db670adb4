"""What does an animal become when features of a relative are added to it?

At the last token of “The dog” are added the features that the relative has and the dog has not, or
has less, as strongly as they differ. What follows asks for the classes of each attribute.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.controls import stand_ins
from experiments.laboratory import Laboratory
from experiments.record import Row, say
from experiments.successors.answers import among, answers, share_of_items
from experiments.successors.concepts import TEXTS, Domain
from experiments.successors.reading import Reading, Singles, read
from trimtab.selector.intervals import mean_estimate

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

    @cached_property
    def asked(self) -> list[tuple[str, str]]:
        """Every attribute with each of its classes."""
        return [(name, one) for name in ASKED for one in dict.fromkeys(self.domain.classes[name])]

    def class_of(self, place: int, attribute: str) -> int | None:
        """Return the place in `asked` of a word's class; None where it has none."""
        if place < len(self.domain.concepts):
            return self.asked.index((attribute, self.domain.classes[attribute][place]))
        return self.asked.index((TAXON, self.words[place])) if attribute == TAXON else None

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
        drawn = stand_ins(reading.features.mean(0), chosen, sizes.draws, rng)

        def as_long(vector: Singles) -> Singles:
            scale = np.linalg.norm(own) / max(float(np.linalg.norm(vector)), 1e-9)
            return (scale * vector).astype(np.float32)

        return {
            FEATURES: [own],
            RANDOM: [as_long(more[chosen[: len(one)]] @ reading.directions[one]) for one in drawn],
            RESIDUAL: [as_long(residual[relative] - residual[place])],
        }

    def measured(self, place: int) -> dict[str, dict[str, Floats]]:
        """Return log-probabilities of what is asked, by relation and way, `(draws, n_texts, n)`.

        They are those of a class among its attribute's. Those without any relative are under the
        relation `""`.
        """
        kin = self.relatives[place]
        completions = [f"{ASKED[attribute]} {one}" for attribute, one in self.asked]

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
        return {
            relation: {way: self._among(np.array(x)) for way, x in ways.items()}
            for relation, ways in kept.items()
        }

    def _among(self, values: Floats) -> Floats:
        spans = [[i for i, (name, _) in enumerate(self.asked) if name == one] for one in ASKED]
        return np.concatenate([among(values[..., span]) for span in spans], axis=-1)


def _rows(
    kin: Kin, found: Sequence[dict[str, dict[str, Floats]]], relation: str, attribute: str
) -> Iterator[Row]:
    """Yield a row a way: of animals whose class the relative shares, and of the others."""
    classes = [
        (place, kin.class_of(place, attribute), kin.class_of(relatives[relation], attribute))
        for place, relatives in enumerate(kin.relatives)
        if relation in relatives
    ]
    known = [(place, own, given) for place, own, given in classes if given is not None]
    for same in (True, False):
        some = [(place, own, given) for place, own, given in known if (own == given) == same]
        if some:
            yield from _of_some(kin, found, relation, attribute, some)


def _of_some(
    kin: Kin,
    found: Sequence[dict[str, dict[str, Floats]]],
    relation: str,
    attribute: str,
    some: Sequence[tuple[int, int | None, int]],
) -> Iterator[Row]:
    """Yield the rows of some animals, given as their place, their own class and the relative's."""
    groups = [kin.words[place] for place, _, _ in some]
    own, given = (np.array([one[i] for one in some]) for i in (1, 2))
    same = bool((own == given).all())
    span = [i for i, (name, _) in enumerate(kin.asked) if name == attribute]

    def values(relation: str, way: str) -> Floats:
        return np.stack([found[place][relation][way] for place, _, _ in some])

    base = values("", "")  # (animals, draws, texts, asked)
    likeliest = base[:, 0][..., span].argmax(-1) + span[0]
    rates = (likeliest == own[:, None]).astype(np.float64)
    each = np.arange(len(some))
    moved: dict[str, Floats] = {}
    for way in (RANDOM, FEATURES, RESIDUAL):
        steered = values(relation, way)
        change = (steered - base).mean(2)
        of_own, of_given = change[each, :, own], change[each, :, given]
        moved[way] = of_own if same else of_given - of_own
        row: Row = {"relation": relation, "attribute": attribute, "added": way}
        row |= {"class": "shared" if same else "another", "animals": len(some)}
        row |= {
            "known": share_of_items(rates[:, None], groups),
            "own": mean_estimate(of_own, groups),
        }
        if not same:
            row["given"] = mean_estimate(of_given, groups)
            named = steered[..., span].argmax(-1) + span[0] == given[:, None, None]
            row["given_named"] = share_of_items(named.astype(np.float64), groups)
            row["given_against_own"] = mean_estimate(moved[way], groups)
        if way != RANDOM:
            less = moved[way].mean(1)[:, None] - moved[RANDOM]
            row["beyond_random"] = mean_estimate(less, groups)
        yield row
