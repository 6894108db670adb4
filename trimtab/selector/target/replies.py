"""Replies that the model writes itself to fixed prompts, on both sides of the behaviour."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.pairs import Sample
from trimtab.selector.prompting import examples_to_show
from trimtab.selector.target.ground import Ground
from trimtab.steering.generation import generate, read_prompts
from trimtab.steering.margin import Margin

MIN_REPLIES = 8  # a side: below it own replies teach too little to rank anything by


@dataclass(frozen=True, eq=False)
class Replies:
    """At most one reply a prompt and side.

    Attributes:
        samples: each reply alone, as the positive side of a sample, whichever side it is meant for.
        positive: whether it was written to show the behaviour, `(n,)`.
        probability: that it does, by the classifier, `(n,)`.
        margin: on the samples, so that an effect is a reply's change of log-probability.
    """

    samples: tuple[Sample, ...]
    positive: NDArray[np.bool_]
    probability: NDArray[np.float64]
    margin: Margin

    @property
    def key(self) -> str:
        """Names these replies in the run's journal."""
        texts = json.dumps([(sample.messages, sample.positive) for sample in self.samples])
        return f"own replies {hashlib.sha256(texts.encode()).hexdigest()[:16]}"


def write_replies(ground: Ground, directions: Sequence[Tensor]) -> Replies | None:
    """Return what the model writes to the prompts of `tune`; None where it writes nothing.

    The positive side is written under each of `directions` in turn, the negative under its
    negative, then by the unsteered model; where the classifier still finds no reply on the side
    that is wanted, answers of that side are shown to the model as examples. The first reply on
    the right side is taken; where there is none, the first that is any.

    Args:
        ground: prompts, bench and examples.
        directions: `(d_model,)` each, the most trusted first; one that cannot be brought to the
            damage budget is passed over.
    """
    written = {
        True: [_under(ground, direction) for direction in directions],
        False: [_under(ground, -direction) for direction in directions]
        + [ground.bench.replies(None, ground.conversations)],
    }
    samples, positive, probability = [], [], []
    for side in (True, False):
        taken = _first_right(ground, [w for w in written[side] if w is not None], side)
        missing = [i for i, (_, p) in enumerate(taken) if (p > 0.5) != side]
        for i, found in zip(missing, _after_examples(ground, missing, side), strict=False):
            if (found[1] > 0.5) == side or not taken[i][0]:
                taken[i] = found
        for number, (reply, p) in enumerate(taken):
            if reply:
                samples.append(_alone(ground, number, reply, side))
                positive.append(side)
                probability.append(p)
    if not samples:
        return None
    margin = ground.bench.margin(samples)
    return Replies(tuple(samples), np.array(positive), np.array(probability), margin)


def _under(ground: Ground, direction: Tensor) -> list[str] | None:
    try:
        multiplier = ground.bench.calibrate(direction).multiplier
    except VectorError:
        return None
    return ground.bench.replies(direction, ground.conversations, multiplier)


def _first_right(
    ground: Ground, written: Sequence[list[str]], side: bool
) -> list[tuple[str, float]]:
    """Return of each prompt the first reply on `side`, else the first, with its probability."""
    judged = [list(zip(w, _probability(ground, w), strict=True)) for w in written]
    taken = [("", 0.0)] * len(ground.conversations)
    for i in range(len(taken)):
        spoken = [found[i] for found in judged if found[i][0]]
        right = [found for found in spoken if (found[1] > 0.5) == side]
        taken[i] = (right or spoken or [("", 0.5)])[0]
    return taken


def _after_examples(ground: Ground, missing: Sequence[int], side: bool) -> list[tuple[str, float]]:
    """Return replies to some prompts, by number, after answered examples of `side`; or nothing."""
    examples = examples_to_show(
        [
            s if side else replace(s, positive=s.negative, negative=s.positive)
            for s in ground.examples
        ]
    )
    if not missing or not examples:
        return []
    bench = ground.bench
    asked = bench.prompted([ground.conversations[i] for i in missing], examples)

    def measure() -> list[str]:  # not through the bench, which would keep the long prompts' caches
        room = bench.max_new_tokens
        prompts = read_prompts(bench.model, asked, chat=bench.chat, system=bench.system, room=room)
        return generate(prompts, max_new_tokens=room)

    replies = bench.journal.once(("after examples", [list(c) for c in asked]), measure)
    return list(zip(replies, _probability(ground, replies), strict=True))


def _probability(ground: Ground, replies: list[str]) -> list[float]:
    classifier = ground.bench.classifier
    found: list[float] = ground.bench.journal.once(
        ("probability", classifier.kind, replies),
        lambda: classifier.probability(replies).tolist(),
    )
    return found


def _alone(ground: Ground, number: int, reply: str, side: bool) -> Sample:
    return Sample(
        id=f"prompt {number} {'positive' if side else 'negative'}",
        behavior=ground.tune[0].behavior,
        messages=ground.conversations[number],
        positive=reply,
        negative=None,
        group=ground.prompt_groups[number],
    )
