"""The study of minimal vectors goes from files to tables, and leaves alone what is there."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.attribution.sizes import Sizes
from experiments.behaviors import questions_of, read_samples, read_sources
from experiments.minimal import study as module
from experiments.minimal.study import BEHAVIORS, study
from experiments.minimal.table import FIGURE, draw
from trimtab.errors import SelectionError
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.selector.exported.export import CONTROLS
from trimtab.selector.select import Settings

SETTINGS = Settings(trials=2, panel=12, max_new_tokens=4, draws=2)
TINY = Sizes(
    halves=12,
    small=4,
    small_sizes=(4, 8),
    parts=10,
    calibrated=10,
    features=12,
    pairs=6,
    budget=12,
    draws=2,
    seeds=2,
    shares=(0.2,),
    measured_in_poison=False,
    damage_texts=2,
)


def test_a_behavior_goes_from_pairs_to_tables_and_is_measured_once(
    pairs: list[Sample],
    questions: list[str],
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUICK", TINY)
    out = tmp_path / "refusal"
    study("refusal", pairs, questions, tiny_model, tiny_sae, out, SETTINGS)
    tables = draw(tmp_path)
    assert tables.count("| refusal |") >= 5
    for control in ("minimal", *CONTROLS):
        assert f"\n| {control.replace('_', ' ')} | " in tables
    for part in ("LDS of sample attribution", "Poisoned pairs found", "go the wrong way"):
        assert part in tables
    assert "<svg" in (tmp_path / FIGURE).read_text(encoding="utf-8")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "run", never)
    monkeypatch.setattr(module, "attribution_study", never)
    study("refusal", pairs, questions, tiny_model, tiny_sae, out, SETTINGS)
    assert draw(tmp_path) == tables
    with pytest.raises(SelectionError, match="seed: 0 then, 1 now"):
        study(
            "refusal", pairs, questions, tiny_model, tiny_sae, out, replace(SETTINGS, seed=1)
        )  # the same folder holds no two runs
    with pytest.raises(SelectionError, match="samples"):
        study("refusal", pairs[1:], questions, tiny_model, tiny_sae, out, SETTINGS)


def test_a_behavior_whose_files_are_missing_is_noted_and_passed_over(
    tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_model", lambda **_: tiny_model)
    monkeypatch.setattr(module, "load_sae", lambda *_: tiny_sae)
    out = tmp_path / "out"
    module.main(tmp_path / "nothing", out, only=["refusal", "sentiment"])
    for name in ("refusal", "sentiment"):
        assert "nothing" in (out / name / "error.txt").read_text(encoding="utf-8")


def test_without_a_vector_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"experiments\.minimal\.study"):
        draw(tmp_path)


def test_a_listed_behavior_is_read_from_its_files_whatever_their_encoding(tmp_path: Path) -> None:
    listed = read_sources(BEHAVIORS)
    assert len(listed) == 9
    source = listed["sentiment"]
    folder = tmp_path / "data" / "sentiment"
    folder.mkdir(parents=True)
    for name in ("rt-polarity.pos", "rt-polarity.neg"):
        (folder / name).write_bytes("a caf\xe9 , and a film .\n".encode("latin-1") * 3)
    samples = read_samples("sentiment", source, tmp_path / "data", tmp_path / "copies")
    assert {sample.positive or sample.negative for sample in samples} == {"a café , and a film ."}
    assert len(questions_of("sentiment", source, tmp_path / "data")) >= 40
