"""Interchange: what a base prompt answers when it is given something of another entity.

Base and source are examples of one template with unlike values. Something is added to the residual
at the base entity's last token; what is read is the next token where the two values part, after
what they have in common.
"""

import random
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.ravel.examples import Example, in_common
from experiments.ravel.prompts import Prompts
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel

Pair = tuple[Example, Example]  # base and source


class Outcomes(NamedTuple):
    """What becomes of pairs, `(n,)` each.

    Attributes:
        base: log-probability of the base's value, nats.
        source: the same of the source's.
        says_base: whether the base's value is the likeliest token.
        says_source: the same of the source's.
    """

    base: Tensor
    source: Tensor
    says_base: Tensor
    says_source: Tensor

    @property
    def odds(self) -> Tensor:
        """How much likelier the source's value is than the base's, nats."""
        return self.source - self.base

    @classmethod
    def joined(cls, parts: Iterable["Outcomes"]) -> "Outcomes":
        """Return the outcomes of several lots of pairs as those of one."""
        return cls(*(torch.cat(values) for values in zip(*parts, strict=True)))


def draw_pairs(examples: Sequence[Example], most: int, seed: int) -> list[Pair]:
    """Give examples a source each, where there is one, and return at most so many, in their order.

    A source is of the same template, and its value parts from the base's within its first tokens.
    """
    draws = random.Random(seed)
    pairs = []
    for _, some in groupby(examples, lambda example: example.template):
        here = list(some)
        for base in here:
            sources = [one for one in here if _parts(base, one)]
            if sources:
                pairs.append((base, draws.choice(sources)))
    kept = sorted(draws.sample(range(len(pairs)), min(most, len(pairs))))
    return [pairs[i] for i in kept]


def _shared(base: Example, source: Example) -> int:
    return in_common([base.answer, source.answer])


def _parts(base: Example, source: Example) -> bool:
    return _shared(base, source) < min(len(base.answer), len(source.answer))


class Interchanges:
    """Pairs whose prompts are run again and again, from the hook point on.

    Args:
        model: the language model; use float32.
        hook_point: where residuals are read and changed.
        pairs: one template after the other.
    """

    def __init__(self, model: LanguageModel, hook_point: HookPoint, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self._read = torch.tensor([_shared(*pair) for pair in pairs])
        tokens = [[one.answer[_shared(*pair)] for one in pair] for pair in pairs]
        self._tokens = torch.tensor(tokens)
        rows: list[list[int]] = []
        self._templates: list[tuple[Tensor, Prompts]] = []
        for _, some in groupby(pairs, lambda pair: pair[0].template):
            here = list(some)
            used = list(dict.fromkeys(example for pair in here for example in pair))
            prompts = Prompts(model, hook_point, used)
            self._templates.append((len(rows) + torch.arange(len(here)), prompts))
            rows += [[used.index(example) for example in pair] for pair in here]
        self._rows = torch.tensor(rows)

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def residuals(self) -> tuple[Tensor, Tensor]:
        """Those of bases and of sources at the entity's last token, `(n, d_model)` each."""
        found = [prompts.residual[self._rows[where]] for where, prompts in self._templates]
        base, source = torch.cat(found).unbind(1)
        return base, source

    def outcomes(self, rows: Tensor, added: Tensor) -> Outcomes:
        """Return what becomes of some pairs; gradients flow.

        Args:
            rows: int64 `(m,)`, which pairs, in ascending order.
            added: `(m, d_model)` to the base's residual.
        """
        found = []
        for where, prompts in self._templates:
            inside = torch.isin(rows, where)
            if not inside.any():
                continue
            here = rows[inside]
            nats = prompts.forward(self._rows[here, 0], self._read[here], added[inside])
            tokens = self._tokens[here].to(nats.device)
            says = nats.argmax(1, keepdim=True) == tokens
            found.append(Outcomes(*nats.gather(1, tokens).unbind(1), *says.unbind(1)))
        return Outcomes.joined(found)

    def batch(self, size: int, draws: random.Random) -> Tensor:
        """Draw some pairs of one template, ascending `(m,)`, `m <= size`."""
        pair = draws.randrange(len(self))
        where = next(where for where, _ in self._templates if pair in where).tolist()
        return torch.tensor(sorted(draws.sample(where, min(size, len(where)))))
