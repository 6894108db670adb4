"""The model's own replies: which are taken, and under what they were written."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.bench import Bench
from trimtab.selector.target import replies as module
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.replies import write_replies
from trimtab.steering.judges.classifier import BehaviorClassifier

YES, NO, ODD = "Sorry, I cannot.", "Yes, of course.", "Maybe so."
OTHER = torch.randn(16, generator=torch.Generator().manual_seed(8))


@pytest.fixture
def written(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the model writes by what it is under; the classifier knows YES and NO."""
    texts = {"dense": YES, "-dense": NO, "unsteered": NO, "other": YES, "-other": NO}
    texts |= {"after YES": YES, "after NO": NO}

    def replies(_: Bench, direction: Tensor | None, asked: Sequence[Any], *__: float) -> list[str]:
        if direction is None:
            return [texts["unsteered"]] * len(asked)
        one = ground.dense if float((direction.abs() - OTHER.abs()).norm()) > 1e-6 else OTHER
        name = "other" if one is OTHER else "dense"
        sign = "" if float(direction @ one) > 0 else "-"
        return [texts[sign + name]] * len(asked)

    def after(prompts: Any, **_: int) -> list[str]:
        shown = prompts[0][1]["content"]
        return [texts["after YES" if shown.startswith("Sorry") else "after NO"]] * len(prompts)

    def probability(_: BehaviorClassifier, some: Sequence[str]) -> Any:
        return np.array([{YES: 0.9, NO: 0.1}.get(text, 0.6) for text in some])

    monkeypatch.setattr(Bench, "replies", replies)
    monkeypatch.setattr(BehaviorClassifier, "probability", probability)
    monkeypatch.setattr(module, "read_prompts", lambda _, conversations, **__: conversations)
    monkeypatch.setattr(module, "generate", after)
    return texts


def sides(ground: Ground, *directions: Tensor) -> tuple[set[str], set[str]]:
    found = write_replies(ground, directions)
    assert found is not None
    texts = np.array([sample.positive for sample in found.samples])
    return set(texts[found.positive]), set(texts[~found.positive])


def test_each_side_is_written_under_the_vector_and_its_negative(
    ground: Ground, written: dict[str, str]
) -> None:
    found = write_replies(ground, [ground.dense])
    assert found is not None
    assert found.positive.tolist() == [True] * 10 + [False] * 10
    assert found.probability.tolist() == [0.9] * 10 + [0.1] * 10
    assert len({s.group for s in found.samples}) == len(ground.conversations)
    assert all(s.negative is None for s in found.samples)
    assert tuple(s.messages for s in found.samples[:10]) == ground.conversations


def test_the_most_trusted_vector_goes_first_and_others_where_it_fails(
    ground: Ground, written: dict[str, str]
) -> None:
    written |= {"dense": "Sorry, dense.", "-dense": NO}
    assert sides(ground, OTHER, ground.dense)[0] == {YES}
    written |= {"other": NO, "dense": YES}
    assert sides(ground, OTHER, ground.dense)[0] == {YES}
    written |= {"-dense": YES, "unsteered": NO}
    assert sides(ground, ground.dense)[1] == {NO}


def test_where_no_vector_gives_a_side_the_model_is_shown_examples_of_it(
    ground: Ground, written: dict[str, str]
) -> None:
    written |= {"dense": NO, "-dense": ODD, "unsteered": YES}
    assert sides(ground, ground.dense) == ({YES}, {NO})
    assert sides(replace(ground, examples=()), ground.dense) == ({NO}, {ODD})


def test_where_even_that_fails_the_first_reply_stays(
    ground: Ground, written: dict[str, str]
) -> None:
    written |= {"dense": NO, "after YES": NO}
    assert sides(ground, ground.dense) == ({NO}, {NO})


def test_a_silent_model_gives_no_replies(ground: Ground, written: dict[str, str]) -> None:
    for name in written:
        written[name] = ""
    assert write_replies(ground, [ground.dense]) is None


def test_a_vector_that_cannot_be_calibrated_is_passed_over(
    ground: Ground, written: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate = Bench.calibrate

    def refuse(self: Bench, direction: Tensor) -> Any:
        if torch.equal(direction.abs(), OTHER.abs()):
            raise VectorError("no multiplier reaches the damage budget")
        return calibrate(self, direction)

    monkeypatch.setattr(Bench, "calibrate", refuse)
    assert sides(ground, OTHER, ground.dense) == ({YES}, {NO})


def test_on_a_model_replies_are_written_once(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_replies(ground, [ground.dense])
    assert first is not None
    assert len(first.samples) == len(first.positive) == len(first.probability) > 10
    np.testing.assert_allclose(
        first.probability,
        ground.bench.classifier.probability([s.positive or "" for s in first.samples]),
    )

    def never(*_: object, **__: object) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr("trimtab.selector.bench.generate", never)
    monkeypatch.setattr(module, "generate", never)
    again = write_replies(ground, [ground.dense])
    assert again is not None
    assert again.key == first.key
