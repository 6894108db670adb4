"""What an edit does to knowledge and to plain text: MMLU in two choices, and neutral prose."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.benchmark_questions import TwoChoices, content_hash, user
from experiments.completions import Completions
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.steering.apply import Edit
from trimtab.steering.positions import Positions

ACCURACIES = ("letter accuracy", "spelled-out accuracy")
PROSE = "nats on neutral text"
LEAD = 8  # words of a text that are given, an attention sink among them

Scores = dict[str, list[float]]
"""A number an item, by measure."""


@dataclass(frozen=True, eq=False)
class Battery:
    """Questions of two choices and neutral texts, and what an edit does to each of them.

    The margin of a question is the log-probability of the correct answer less that of the incorrect
    one: of the letters, or per token of the answers spelled out. The accuracy is how often it is
    above zero. Texts are scored after their first words, in nats per token: the perplexity is the
    exponential of the mean.

    Attributes:
        model: the language model.
        questions: what is asked.
        texts: neutral ones.
        hook_point: where edits act.
        positions: on which tokens.
    """

    model: LanguageModel
    questions: Sequence[TwoChoices]
    texts: Sequence[str]
    hook_point: HookPoint
    positions: Positions

    @cached_property
    def name(self) -> str:
        """A short name of all that scores depend on but the edit and the model."""
        where = (str(self.hook_point), self.positions, LEAD)
        return content_hash([*self.questions, *self.texts, *where])

    @cached_property
    def _choices(self) -> Completions:
        asked = [
            (user(q.question), [q.correct, q.incorrect, q.correct_text, q.incorrect_text])
            for q in self.questions
        ]
        return Completions(self.model, asked, self.hook_point, positions=self.positions)

    @cached_property
    def _prose(self) -> Completions:
        asked = []
        for text in self.texts:
            words = text.split(" ")
            asked.append((user(" ".join(words[:LEAD])), [" " + " ".join(words[LEAD:])]))
        return Completions(self.model, asked, self.hook_point, positions=self.positions, chat=False)

    def __call__(self, change: Edit | None) -> Scores:
        """Return the scores by measure under an edit; None stands for the unsteered model."""
        nats = self._choices([change]).reshape(-1, 4)
        per_token = nats / self._choices.lengths.reshape(-1, 4)
        letter, spelled = nats[:, 0] - nats[:, 1], per_token[:, 2] - per_token[:, 3]
        return {
            "letter accuracy": _list(letter > 0),
            "letter margin": _list(letter),
            "spelled-out accuracy": _list(spelled > 0),
            "spelled-out margin": _list(spelled),
            PROSE: _list(-self._prose([change])[0] / self._prose.lengths),
        }


def _list(values: NDArray[np.float64] | NDArray[np.bool_]) -> list[float]:
    return [float(value) for value in values]
