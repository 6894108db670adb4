"""What surrogates are measured on, and the truth that they are held against."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.pairs import Sample, balanced_groups
from trimtab.selector.bench import Bench
from trimtab.selector.material import Conversation, groups_of


@dataclass(frozen=True, eq=False)
class Ground:
    """Samples and prompts that no vector is made of, and the dense vector of those that are.

    Attributes:
        bench: measures at equal damage, and generates.
        dense: `(d_model,)`.
        tune: samples that surrogates are measured on.
        conversations: prompts that get the judged replies, each once.
        examples: answered samples of other groups, to be shown where the model itself has to be
            told what is meant.
    """

    bench: Bench
    dense: Tensor
    tune: tuple[Sample, ...]
    conversations: tuple[Conversation, ...]
    examples: tuple[Sample, ...] = ()

    @property
    def groups(self) -> list[str]:
        """The groups of `tune`, of unpaired texts with the other side's."""
        return balanced_groups(self.tune)

    @cached_property
    def prompt_groups(self) -> list[str]:
        """The groups of the conversations: those of the samples of `tune` that ask the same."""
        return self.matched(groups_of(self.conversations, self.tune))

    def matched(self, groups: Iterable[str]) -> list[str]:
        """Return groups, those of unpaired texts of `tune` joined to the other side's."""
        own = [sample.group for sample in self.tune]
        matched = dict(zip(own, self.groups, strict=True))
        return [matched.get(group, group) for group in groups]

    @property
    def can_judge(self) -> bool:
        """Whether there are replies, and something that tells whether they show the behaviour."""
        return self.bench.judge.reliable and bool(self.conversations)

    @property
    def strength(self) -> float:
        """The dense vector's multiplier at the damage budget, of unit length."""
        return self.bench.calibrate(self.dense).multiplier

    def shown(self, direction: Tensor | None) -> NDArray[np.bool_]:
        """Return whether the reply to each prompt shows the behaviour, `(n_prompts,)`.

        At equal damage; of the unsteered model without a direction.
        """
        bench = self.bench
        multiplier = 0.0 if direction is None else bench.calibrate(direction).multiplier
        replies = bench.replies(direction, self.conversations, multiplier)
        judged = bench.journal.once(
            ("shown", bench.judge.name, replies),
            lambda: bench.judge.shows(self.conversations, replies).tolist(),
        )
        return np.array(judged, dtype=bool)
