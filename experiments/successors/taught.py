"""Items of sequences in texts, and profiles over the index that sequences teach one another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from experiments.laboratory import Laboratory
from experiments.successors.reading import Reading, Singles, read
from experiments.successors.sequences import PACKAGED, Ordered


class Templates(NamedTuple):
    """Texts that end with an item: those that features are chosen on, and those reported on."""

    fit: tuple[str, ...]
    report: tuple[str, ...]


CONTEXTS = {
    "alone": Templates(
        ("I wrote down {item}", "The answer was {item}", "All it said was {item}"),
        ("Somebody shouted {item}", "My favourite is {item}"),
    ),
    "after two": Templates(
        ("In this order: {earlier}, {item}", "They are called {earlier}, {item}"),
        ("She read aloud: {earlier}, {item}", "Look at the list. {earlier}, {item}"),
    ),
}
BEFORE = 2  # items that stand before one that is not alone


def text_of(template: str, sequence: Ordered, index: int) -> str | None:
    """Return a template with an item; None where there are not enough items before it."""
    places = (index - i - sequence.first for i in range(BEFORE, -1, -1))
    items = [sequence.items[place] for place in places if 0 <= place < len(sequence.items)]
    if "{earlier}" in template and len(items) <= BEFORE:
        return None
    return template.format(item=items[-1], earlier=", ".join(items[:-1]))


@dataclass(frozen=True, eq=False)
class Taught:
    """The packaged sequences, which teach, and those that are tested on.

    Attributes:
        laboratory: where the study runs.
        tested: sequences to test on; they may be packaged ones.
    """

    laboratory: Laboratory
    tested: Sequence[Ordered]

    @cached_property
    def _texts(self) -> dict[tuple[Ordered, str, int], str]:
        return {
            (sequence, template, index): text
            for sequence in dict.fromkeys((*PACKAGED, *self.tested))
            for template in (t for some in CONTEXTS.values() for part in some for t in part)
            for index in sequence.indices
            if (text := text_of(template, sequence, index)) is not None
        }

    @cached_property
    def _row(self) -> dict[tuple[Ordered, str, int], int]:
        unique = {text: i for i, text in enumerate(dict.fromkeys(self._texts.values()))}
        return {key: unique[text] for key, text in self._texts.items()}

    @cached_property
    def reading(self) -> Reading:
        """Of all texts; the model is run when somebody first asks."""
        texts = list(dict.fromkeys(self._texts.values()))
        return read(self.laboratory.model, self.laboratory.sae, texts)

    def indices(self, sequence: Ordered, context: str) -> list[int]:
        """Return the indices of a sequence that a context has texts for."""
        template = CONTEXTS[context].fit[0]
        return [index for index in sequence.indices if (sequence, template, index) in self._texts]

    def values(
        self, what: str, sequence: Ordered, templates: Sequence[str], indices: Iterable[int]
    ) -> Singles:
        """Return what was read at items, `(n_templates, n_indices, width)`.

        Args:
            what: `residual` or `features`.
            sequence: of the items.
            templates: around them, of one context.
            indices: that the context has texts for.
        """
        kept: Singles = getattr(self.reading, what)
        rows = [[self._row[sequence, template, i] for i in indices] for template in templates]
        found: Singles = kept[np.array(rows)]
        return found

    def profile(
        self, what: str, sequences: Sequence[Ordered], context: str, indices: Sequence[int]
    ) -> Singles:
        """Return the mean of sequences at each index, on the fitting texts, `(n_indices, width)`.

        Every sequence is centred: what all its items have in common is no matter of the index.
        """
        templates = CONTEXTS[context].fit
        each = [self.values(what, one, templates, indices).mean(0) for one in sequences]
        return centred(np.mean(each, axis=0))


def centred(rows: Singles) -> Singles:
    """Return rows `(..., n, width)` less their mean."""
    found: Singles = rows - rows.mean(-2, keepdims=True)
    return found


def teachers(sequence: Ordered, longest: int, *, own_kind: bool = False) -> list[list[Ordered]]:
    """Return the packaged sequences that may teach a sequence its indices, as units of one vote.

    Args:
        sequence: that is tested.
        longest: index that a teacher has to have.
        own_kind: each other sequence of its own kind is a unit, instead of each other kind.
    """
    able = [one for one in PACKAGED if longest in one.indices]
    if own_kind:
        return [[one] for one in able if one.kind == sequence.kind and one.name != sequence.name]
    kinds = dict.fromkeys(one.kind for one in able if one.kind != sequence.kind)
    return [[one for one in able if one.kind == kind] for kind in kinds]


def shared(units: Singles) -> Singles:
    """Return how much each feature's profiles have in common, `(width,)`.

    The sum over indices and over pairs of units of the product of their profiles; with one unit
    alone, of its square.

    Args:
        units: centred profiles, `(n_units, n_indices, width)`.
    """
    squares: Singles = (units**2).sum((0, 1))
    between: Singles = ((units.sum(0) ** 2).sum(0) - squares) / 2
    return squares if len(units) == 1 else between


def most_shared(units: Singles, count: int) -> list[int]:
    """Return the places of the features whose profiles have most in common, the most first."""
    order: list[int] = np.argsort(-shared(units), kind="stable").tolist()
    return order[:count]


def shuffled(units: Singles, rng: np.random.Generator) -> Singles:
    """Return profiles whose indices are exchanged, in each unit in another way."""
    return np.stack([rng.permutation(unit) for unit in units])
