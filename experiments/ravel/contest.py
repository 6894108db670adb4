"""What is given for the attributes of one domain, and what becomes of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.laboratory import Laboratory
from experiments.ravel.changes import Change
from experiments.ravel.interchange import Interchanges, Outcomes, Pair
from experiments.ravel.methods import METHODS, NOTHING, Finder
from experiments.ravel.scores import Answers, Measured
from experiments.ravel.ways import Lesson
from experiments.record import Row, say

Pairs = dict[str, dict[str, list[Pair]]]  # by split, then by attribute


@dataclass(frozen=True, eq=False)
class Contest:
    """All methods in one domain.

    Attributes:
        laboratory: where they are measured.
        domain: its name.
        pairs: of two attributes or more.
    """

    laboratory: Laboratory
    domain: str
    pairs: Pairs

    def measured(self, attribute: str) -> dict[str, tuple[Row, Measured]]:
        """Return, by method, how much is given for an attribute, and what test prompts became."""
        finder = self._finder(attribute)
        found = {method: self._given(attribute, method, finder) for method in METHODS}
        entities = [
            [self.pairs["test"][name][i][0].entity for name, rows in asked for i in rows.tolist()]
            for asked in self._asked("test", attribute)
        ]

        def became(method: str) -> Measured:
            parts = zip(found[method]["answers"], found[NOTHING]["answers"], entities, strict=True)
            return Measured(
                *(
                    Answers(np.array(right), np.array(odds) - np.array(before), bases)
                    for (right, odds), (_, before), bases in parts
                )
            )

        return {method: (found[method]["size"], became(method)) for method in METHODS}

    def _given(self, attribute: str, method: str, finder: Finder) -> dict[str, Any]:
        """How many features or directions a method gives, and the answers of own and other prompts.

        Answers are, means over draws, whether they are right and the odds of the source's value.
        """

        def measure() -> dict[str, Any]:
            say(f"{self.domain}, {attribute}: {method}")
            found = METHODS[method](finder)
            tried = [self._tried("test", attribute, change) for change in found.changes]
            own, others = zip(*tried, strict=True)
            answers = [
                [_mean([o.says_source for o in own]), _mean([o.odds for o in own])],
                [_mean([o.says_base for o in others]), _mean([o.odds for o in others])],
            ]
            size = {"features": found.features, "dimensions": found.dimensions}
            return {"size": size, "answers": answers}

        key = ("given", self.domain, self._digest, attribute, method)
        result: dict[str, Any] = self.laboratory.journal.once(key, measure)
        return result

    def _finder(self, attribute: str) -> Finder:
        sizes, seed = self.laboratory.sizes, self.laboratory.config.seed
        train = self._interchanges["train"]
        others = [pairs for name, pairs in train.items() if name != attribute]

        def good(change: Change) -> tuple[float, float]:
            own, others = self._tried("val", attribute, change)
            product = own.says_source.double().mean() * others.says_base.double().mean()
            return float(product), float(own.odds.mean() - others.odds.mean())

        return Finder(
            Lesson(self.laboratory.sae, train[attribute], others, sizes.steps, sizes.batch, seed),
            good,
            sizes.features,
            sizes.dimensions,
            sizes.subspace,
            sizes.draws,
            seed,
        )

    def _asked(self, split: str, attribute: str) -> list[list[tuple[str, Tensor]]]:
        """The pairs an interchange is tried on: all of the attribute, about as many of others."""
        pairs = self.pairs[split]
        others = [name for name in pairs if name != attribute]
        return [
            [(attribute, torch.arange(len(pairs[attribute])))],
            [(name, torch.arange(len(pairs[name]))[:: len(others)]) for name in others],
        ]

    def _tried(self, split: str, attribute: str, change: Change) -> list[Outcomes]:
        """What becomes of the attribute's pairs, and of the others'."""
        return [
            Outcomes.joined(self._interchanged(split, *some, change) for some in asked)
            for asked in self._asked(split, attribute)
        ]

    @torch.no_grad()
    def _interchanged(self, split: str, name: str, rows: Tensor, change: Change) -> Outcomes:
        pairs = self._interchanges[split][name]
        base, source = (x[rows] for x in pairs.residuals)
        return pairs.outcomes(rows, change(base, source))

    @cached_property
    def _interchanges(self) -> dict[str, dict[str, Interchanges]]:
        model, point = self.laboratory.model, self.laboratory.sae.hook_point
        return {
            split: {name: Interchanges(model, point, some) for name, some in found.items()}
            for split, found in self.pairs.items()
        }

    @cached_property
    def _digest(self) -> str:
        """Of all pairs: what is given rests on the training and the validation pairs too."""
        pairs = [
            [split, name, [[astuple(one) for one in pair] for pair in some]]
            for split, found in self.pairs.items()
            for name, some in found.items()
        ]
        return hashlib.sha256(repr(pairs).encode()).hexdigest()


def _mean(draws: Sequence[Tensor]) -> list[float]:
    means: list[float] = torch.stack([draw.double().cpu() for draw in draws]).mean(0).tolist()
    return means
