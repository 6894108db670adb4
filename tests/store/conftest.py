"""Samples and a small store that the tests of this folder share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build

WORDS = ("think", "should", "rather", "course", "quick", "brown", "lazy", "answer", "agree")


def make_pair(number: int, behavior: str = "refusal") -> Sample:
    word = WORDS[number % len(WORDS)]
    return Sample(
        id=f"pair-{number}",
        behavior=behavior,
        messages=({"role": "user", "content": f"What is the {word} question" + " now" * number},),
        positive="Sorry, I cannot help." if number % 2 else f"No: {word}.",
        negative=f"Yes, of course I would say {word} number {number}.",
        group=word,
        meta={"row": number},
    )


@pytest.fixture(scope="session")
def make_pairs() -> Callable[..., list[Sample]]:
    """Make the first n of a fixed sequence of short pairs of unlike length."""
    return lambda n, behavior="refusal": [make_pair(i, behavior) for i in range(n)]


@pytest.fixture(scope="session")
def texts() -> list[Sample]:
    """Five signed unpaired texts: two positive, three negative."""
    return [
        Sample(
            id=f"text-{number}",
            behavior="tone",
            messages=(),
            positive=f"I think so, {word}" if number < 2 else None,
            negative=f"The {word} dog, {word}" if number >= 2 else None,
        )
        for number, word in enumerate(WORDS[:5])
    ]


@pytest.fixture(scope="session")
def store(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    make_pairs: Callable[..., list[Sample]],
    texts: list[Sample],
) -> Store:
    """A store of 7 pairs of "refusal" and 5 unpaired texts of "tone"; only to be read."""
    path = tmp_path_factory.mktemp("shared") / "store"
    return build(path, [*make_pairs(7), *texts], tiny_model, tiny_sae, progress=False)


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of two or three samples, so that a build has several."""
    monkeypatch.setattr("trimtab.store.plan.TASK_CHARACTERS", 150)


@pytest.fixture
def built(
    tmp_path: Path, tiny_model: LanguageModel, tiny_sae: SAE, small_tasks: None
) -> Callable[..., Store]:
    """Build a store of several tasks that the test may damage."""

    def make(samples: list[Sample], name: str = "store", **options: Any) -> Store:
        return build(tmp_path / name, samples, tiny_model, tiny_sae, progress=False, **options)

    return make
