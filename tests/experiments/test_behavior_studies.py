"""Every study of behaviours goes from a config to tables and figures, and resumes."""

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from experiments.config import SMALL as SMALL_CONFIG
from experiments.config import read_config, sizes_of
from experiments.laboratory import Laboratory
from trimtab.errors import PairsError, SelectionError
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.store import set_descriptions

WORDS = ("think", "should", "rather", "course", "quick", "brown", "lazy", "answer", "fox", "dog")
SIDES = {
    "refusal": ("Sorry, I cannot {}.", "Yes, of course I would {}."),
    "quickness": ("The quick brown {} jumps.", "The lazy dog thinks of {}."),
    "doubt": ("I rather think {} it is.", "It is {} of course."),
    "answers": ("The answer is {}.", "I should ask of {}."),
}
SMALL: dict[str, dict[str, Any]] = {
    "feature_vectors": {"atoms": (2, 4), "layers": (0,), "later": 3, "draws": 2},
    "minimal_criteria": {"kept": (2,)},
    "feature_discovery": {"kept": (1, 4), "tested": 4, "ablated": 2, "draws": 2},
    "analogies": {"features": 4, "few": 3, "draws": 2},
    "feature_naming": {"features": 6, "each": 2},
}
TABLES = {
    "feature_vectors": {"decompositions", "layers", "together"},
    "minimal_criteria": {"criteria", "choices", "pairs"},
    "feature_discovery": {"areas", "curves", "ablations"},
    "analogies": {"transfers", "predictions", "helped"},
    "feature_naming": {"names", "features", "kinds"},
}


def modules(name: str) -> tuple[ModuleType, ModuleType]:
    return tuple(importlib.import_module(f"experiments.{name}.{m}") for m in ("study", "table"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
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
    (folder / "config.toml").write_text("\n".join(listed))
    return folder


@pytest.fixture
def laboratory(
    data: Path, tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> Callable[[str], Laboratory]:
    config = read_config(data / "config.toml")

    def made(name: str) -> Laboratory:
        sizes = sizes_of(replace(config, sizes=SMALL), name, modules(name)[0].SIZES)
        return Laboratory(config, data, tiny_model, tiny_sae, tmp_path, tmp_path / name, sizes)

    return made


@pytest.mark.parametrize("name", SMALL)
def test_a_study_measures_draws_and_measures_nothing_twice(
    name: str,
    laboratory: Callable[[str], Laboratory],
    descriptions: Callable[..., pl.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, table = modules(name)
    set_descriptions(laboratory(name).store.path, descriptions(48))
    first = laboratory(name)
    tables = study.study(first)
    assert set(tables) == TABLES[name]
    first.write(tables)
    page = table.draw(first.out)
    if name != "feature_naming":  # which is of features, whatever the behaviour
        assert all(f"| {behavior} |" in page for behavior in SIDES)
    assert list(first.out.glob("*.svg"))
    config = json.loads((first.out / "config.json").read_text())
    assert {"commit", "versions", "seed", "budget", "sizes", "behaviors"} <= set(config)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    for module in ("trimtab.selector.scales.calibrate", "trimtab.selector.bench.generate"):
        monkeypatch.setattr(module, never)
    again = study.study(laboratory(name))
    for one in tables:
        assert pl.DataFrame(_plain(again[one])).equals(pl.DataFrame(_plain(tables[one])))


def _plain(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {"row": [repr(row) for row in rows]}


def test_a_config_that_names_what_no_study_knows_is_refused(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("sample = 3")
    with pytest.raises(SelectionError, match="unknown sample"):
        read_config(file)
    file.write_text("[sizes.analogies]\natoms = 3")
    with pytest.raises(SelectionError, match=r"sizes\.analogies: unknown atoms; there are draws"):
        sizes_of(read_config(file), "analogies", modules("analogies")[0].SIZES)
    with pytest.raises(SelectionError, match="is no list of what to study"):
        read_config(tmp_path / "nowhere.toml")


def test_a_behavior_in_files_needs_the_folder_of_data(
    laboratory: Callable[[str], Laboratory],
) -> None:
    with pytest.raises(PairsError, match="--data"):
        replace(laboratory("analogies"), data=None).samples  # noqa: B018


@pytest.mark.parametrize("name", ["small", "public", "gemma"])
def test_the_configs_that_come_with_the_studies_can_be_read(name: str) -> None:
    config = read_config(SMALL_CONFIG.with_name(f"{name}.toml"))
    assert len(config.behaviors) >= 5
    for study in SMALL:
        sizes_of(config, study, modules(study)[0].SIZES)
