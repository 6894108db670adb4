"""What every judge of replies offers, and when it may be believed. Needs no torch."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.pairs import Message

RELIABLE_ACCURACY = 0.85  # below it a run says that its judge cannot judge

Conversations = Sequence[Sequence[Message]]


class Judge(Protocol):
    """Says whether replies show the behaviour, and how well it tells the pairs' own completions."""

    @property
    def name(self) -> str:
        """What it is, as people write it."""

    @property
    def accuracy(self) -> float:
        """Balanced accuracy on completions of pairs that it was not shown, 0 to 1."""

    @property
    def reliable(self) -> bool:
        """Whether the accuracy is `RELIABLE_ACCURACY` or more."""

    @property
    def way_out(self) -> str:
        """What to do where it is not reliable."""

    def shows(self, conversations: Conversations, replies: Sequence[str]) -> NDArray[np.bool_]:
        """Return whether each reply to its conversation shows the behaviour, `(n,)`.

        An empty reply shows nothing.
        """


def cannot_judge(judge: Judge) -> str:
    """Return one sentence for a run whose judge is not reliable."""
    return (
        f"the {judge.name} cannot judge replies (accuracy {judge.accuracy:.2f}, "
        f"{RELIABLE_ACCURACY} is needed), so behaviour rates will mean nothing: {judge.way_out}"
    )
