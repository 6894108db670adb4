"""A small store of made-up pairs, which the studies' tests run on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config import read_config
from experiments.laboratory import Laboratory
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.store import Store, build

WORDS = ("think", "should", "rather", "course", "quick", "brown", "lazy", "answer", "fox", "dog")
SIDES = {
    "refusal": ("Sorry, I cannot {}.", "Yes, of course I would {}."),
    "quickness": ("The quick brown {} jumps.", "The lazy dog thinks of {}."),
    "doubt": ("I rather think {} it is.", "It is {} of course."),
    "answers": ("The answer is {}.", "I should ask of {}."),
}
UNPAIRED = "moods"
NO_SIDES: dict[str, str | None] = {"positive": None, "negative": None}


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


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four behaviours in files, with the config that lists them."""
    folder = tmp_path_factory.mktemp("data")
    listed = ["samples = 24", "questions = 4"]
    for name, (positive, negative) in SIDES.items():
        rows = [
            {
                "prompt": f"What is the {word} {name} {i}?",
                "positive": positive.format(word),
                "negative": negative.format(word),
            }
            for i, word in enumerate(WORDS * 3)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        asked = [json.dumps({"question": f"What of the {word}?"}) for word in WORDS]
        (folder / f"{name}.questions.jsonl").write_text("\n".join(asked))
        listed += [f"[behaviors.{name}]", f'files = ["{name}.jsonl"]']
        listed += [f'questions = "{name}.questions.jsonl"']
    texts: list[dict[str, str | None]] = [
        {"prompt": f"How is the {word} {i}?", **NO_SIDES, side: f"The {word} is {how}."}
        for i, word in enumerate(WORDS * 2)
        for side, how in (("positive", "quick"), ("negative", "lazy"))
    ]
    (folder / f"{UNPAIRED}.jsonl").write_text("\n".join(map(json.dumps, texts)))
    listed += [f"[behaviors.{UNPAIRED}]", f'files = ["{UNPAIRED}.jsonl"]']
    listed += ['questions = "doubt.questions.jsonl"']
    (folder / "config.toml").write_text("\n".join(listed))
    return folder


@pytest.fixture
def laboratory(
    data: Path, tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> Callable[[str, Any], Laboratory]:
    """What makes a study's laboratory, of its name and sizes, on the tiny model and SAE."""
    config = read_config(data / "config.toml")

    def made(name: str, sizes: Any) -> Laboratory:
        return Laboratory(config, data, tiny_model, tiny_sae, tmp_path, tmp_path / name, sizes)

    return made
