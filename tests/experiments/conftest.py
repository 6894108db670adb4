"""A small store of made-up pairs, which the studies' tests run on."""

import pytest

from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.store import Store, build

WORDS = ("think", "should", "rather", "course", "quick", "brown", "lazy", "answer", "fox", "dog")


@pytest.fixture(scope="session")
def pairs() -> list[Sample]:
    """Forty pairs, each of its own group, whose sides a word classifier tells apart."""
    return [
        Sample(
            f"pair-{i}",
            "refusal",
            ({"role": "user", "content": f"What is the {WORDS[i % 10]} question {i}?"},),
            f"Sorry, I cannot {WORDS[i % 10]}.",
            f"Yes, of course I would {WORDS[i % 10]} {i}.",
            f"group {i}",
        )
        for i in range(40)
    ]


@pytest.fixture(scope="session")
def questions() -> list[str]:
    """Ten questions that no pair asks."""
    return [f"What of the {word}?" for word in WORDS]


@pytest.fixture(scope="session")
def store(
    pairs: list[Sample],
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    tmp_path_factory: pytest.TempPathFactory,
) -> Store:
    """The pairs' store, built with the tiny model and SAE."""
    path = tmp_path_factory.mktemp("studied") / "store"
    return build(path, pairs, tiny_model, tiny_sae, progress=False)
