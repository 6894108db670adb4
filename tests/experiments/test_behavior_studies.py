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
import torch

from experiments.config import SMALL as SMALL_CONFIG
from experiments.config import read_config, sizes_of
from experiments.laboratory import Laboratory
from experiments.token_count import counted
from trimtab.errors import PairsError, SelectionError, StoreError, VectorError
from trimtab.model.language_model import LanguageModel
from trimtab.store import set_descriptions
from trimtab.store.files import building

BEHAVIORS = ("refusal", "quickness", "doubt", "answers")
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
    "feature_naming": {"names", "features", "kinds", "promotion"},
}


def modules(name: str) -> tuple[ModuleType, ModuleType]:
    return tuple(importlib.import_module(f"experiments.{name}.{m}") for m in ("study", "table"))  # type: ignore[return-value]


def sizes(name: str) -> Any:
    return replace(modules(name)[0].SIZES, **SMALL[name])


@pytest.mark.parametrize("name", SMALL)
def test_a_study_measures_draws_and_measures_nothing_twice(
    name: str,
    laboratory: Callable[[str, Any], Laboratory],
    descriptions: Callable[..., pl.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, table = modules(name)
    set_descriptions(laboratory(name, sizes(name)).store.path, descriptions(48))
    first = laboratory(name, sizes(name))
    tables = study.study(first)
    assert set(tables) == TABLES[name]
    first.write(tables)
    page = table.draw(first.out)
    if name != "feature_naming":  # which is of features, whatever the behaviour
        assert all(f"| {behavior} |" in page for behavior in BEHAVIORS)
    assert list(first.out.glob("*.svg"))
    config = json.loads((first.out / "config.json").read_text())
    assert {"commit", "versions", "seed", "budget", "sizes", "behaviors"} <= set(config)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    for module in ("trimtab.selector.scales.calibrate", "trimtab.selector.bench.generate"):
        monkeypatch.setattr(module, never)
    again = study.study(laboratory(name, sizes(name)))
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
    file.write_text("[sizes.analogy]\nfew = 3")
    with pytest.raises(SelectionError, match="no study 'analogy'"):
        read_config(file)
    file.write_text("[behaviors.moods]\nfile = 3")
    with pytest.raises(PairsError, match=r"'moods'.*unknown file"):
        read_config(file)
    file.write_text('lists = ["nowhere.toml"]')
    for lost in (file, tmp_path / "nowhere.toml"):
        with pytest.raises(SelectionError, match="is no list of what to study"):
            read_config(lost)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('samples = "many"', "samples: .*valid integer, not 'many'"),
        ("samples = 0", "samples: .*greater than or equal to 1, not 0"),
        ("seed = 1.5", "seed: .*not 1.5"),
        ("budget = -1.0", "budget: .*greater than 0, not -1.0"),
        ("model = 5", "model: .*valid string, not 5"),
        ('saes = "x/y"', "saes: .*valid tuple, not 'x/y'"),
        ("sizes = 5", "sizes: .*not 5"),
        ('lists = "minimal.toml"', "lists: .*valid list"),
        ('behaviors = "formality"', "behaviors: .*dictionary, not 'formality'"),
        ('[behaviors]\nformality = "x"', "behaviors: formality: .*not 'x'"),
        ("[behaviors.formality]\npackaged = 3", "'formality': packaged: .*not 3"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_file(
    tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(SelectionError, match=rf"config\.toml.*{told}"):
        read_config(file)


def test_a_size_of_another_type_is_named_with_its_study(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for text, told in {"few = 'x'": "few: .*not 'x'", "draws = 0": "draws: .*not 0"}.items():
        file.write_text(f"[sizes.analogies]\n{text}")
        with pytest.raises(SelectionError, match=rf"sizes\.analogies: {told}"):
            sizes_of(read_config(file), "analogies", modules("analogies")[0].SIZES)


def test_a_behavior_in_files_needs_the_folder_of_data(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    here = replace(laboratory("analogies", sizes("analogies")), data=None)
    with pytest.raises(SelectionError, match=r"no behaviour can be read: .*--data"):
        list(here.subjects())


def test_a_study_of_no_behaviors_reads_none_and_resumes_whatever_they_are(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    def measured(fails: bool) -> int:
        here = laboratory("analogies", sizes("analogies"))
        if fails:
            here = replace(here, data=None)
        found: int = here.journal.once(("of no behaviour",), lambda: 2 - fails)
        here.write({"found": [{"n": found}]})
        return found

    assert [measured(fails=False), measured(fails=True)] == [2, 2]
    out = laboratory("analogies", sizes("analogies")).out
    config = json.loads((out / "config.json").read_text())
    assert config["failed"] == {}
    assert not {"samples", "behaviors", "judges"} & set(config)


def test_other_samples_are_refused_in_a_line(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    here = laboratory("analogies", sizes("analogies"))
    here.subject("doubt")
    fewer = replace(here, config=replace(here.config, samples=20))
    with pytest.raises(SelectionError, match=r"samples: '[0-9a-f]+' then") as refused:
        fewer.subject("doubt", here.store, here.sae)
    assert len(str(refused.value)) < 400


def test_tables_without_a_row_replace_none_and_the_reason_is_told(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    here = laboratory("analogies", sizes("analogies"))
    here.write({"found": [{"n": 1}]})
    here.fail("doubt", PairsError("too few"))
    with pytest.raises(SelectionError, match="nothing could be measured: too few"):
        here.write({"found": []})
    assert pl.read_parquet(here.out / "found.parquet").rows() == [(1,)]


def test_measurements_of_other_settings_are_refused_before_any_behavior(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    here = laboratory("analogies", sizes("analogies"))
    next(here.subjects())
    other = replace(here, config=replace(here.config, seed=7))
    with pytest.raises(SelectionError, match="seed: 0 then, 7 now"):
        next(other.subjects())


@pytest.mark.parametrize(
    "name",
    ["small", "public", "gemma", "analogies/every_behavior", "minimal_criteria/with_caa"],
)
def test_the_configs_that_come_with_the_studies_can_be_read(name: str) -> None:
    config = read_config(SMALL_CONFIG.parent / f"{name}.toml")
    assert len(config.behaviors) >= 5
    for study in SMALL:
        sizes_of(config, study, modules(study)[0].SIZES)


def test_what_cannot_be_read_keeps_no_other_behavior_waiting_and_is_named(
    data: Path, laboratory: Callable[[str, Any], Laboratory]
) -> None:
    whole = laboratory("analogies", sizes("analogies"))
    listed = whole.config.behaviors
    missing = {"nowhere": replace(listed["doubt"], files=("nowhere.jsonl",))}
    config = replace(whole.config, behaviors=missing | listed)
    broken = replace(whole, config=config)
    assert [subject.name for subject in broken.subjects()] == list(listed)
    assert "nowhere.jsonl" in broken.failed["nowhere"]


def test_rows_are_kept_as_far_as_they_can_be_measured(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    def rows() -> Any:
        yield {"a": 1}
        raise VectorError("no multiplier")

    here = laboratory("analogies", sizes("analogies"))
    assert here.rows("this", rows()) == [{"a": 1}]
    assert here.failed == {"this": "no multiplier"}


def test_tokens_are_counted_over_interruptions(tiny_model: LanguageModel, tmp_path: Path) -> None:
    for _ in range(2):
        with counted(tiny_model, tmp_path) as count:
            tiny_model.module(input_ids=torch.ones(2, 3, dtype=torch.long))
    assert count["tokens"] == 12


def test_a_second_vector_at_no_later_layer_is_refused(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    here = laboratory("feature_vectors", sizes("feature_vectors"))
    early = replace(here, sizes=replace(here.sizes, later=0))
    with pytest.raises(SelectionError, match="beyond the SAE's layer"):
        modules("feature_vectors")[0].study(early)


def test_a_file_of_data_that_is_missing_is_named_with_the_way_out(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    here = laboratory("analogies", sizes("analogies"))
    assert here.file("refusal.jsonl").exists()
    assert len(here.read["refusal.jsonl"]) == 64
    with pytest.raises(SelectionError, match=r"has no nowhere\.json"):
        here.file("nowhere.json")
    with pytest.raises(SelectionError, match="--data"):
        replace(here, data=None).file("refusal.jsonl")


def test_a_study_waits_while_another_builds_what_they_share(
    laboratory: Callable[[str, Any], Laboratory], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = laboratory("first", None), laboratory("second", None)
    monkeypatch.setattr("experiments.laboratory.PATIENCE", 0.0)
    with building(first.shelf), pytest.raises(StoreError, match="being built by another process"):
        _ = second.store
    assert second.store.path == first.store.path
