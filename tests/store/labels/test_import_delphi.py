"""Delphi's explanations in the place of a store's labels, with their scores beside them."""

import json
from pathlib import Path
from typing import Any

import pytest

from trimtab.errors import ModelError
from trimtab.store import Store, open_store
from trimtab.store.labels import import_labels


def write(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_bytes(json.dumps(content, ensure_ascii=False).encode())


def judged(*correct: bool | None) -> list[dict[str, Any]]:
    return [{"str_tokens": ["a"], "prediction": True, "correct": one} for one in correct]


def test_explanations_replace_labels_and_bring_their_scores(
    described: Store, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    write(results / "explanations", "layers.1_latent4", "quick “things”\n☂")
    write(results / "explanations", "layers.1_latent40", "forty")
    write(results / "scores" / "fuzz", "layers.1_latent4", judged(True, True, False, None))
    write(results / "scores" / "detection", "layers.1_latent4", judged(True))
    assert import_labels(described.path, results) == (2, 0)
    table = open_store(described.path).descriptions([4, 5, 40])
    assert table["label"].to_list() == ["quick “things”\n☂", "label 5 of word", "forty"]
    assert table["label_source"].to_list() == [
        "delphi layers.1, explanations/layers.1_latent4.txt, detection 1.00, fuzz 0.67",
        "automatic",
        "delphi layers.1, explanations/layers.1_latent40.txt",
    ]


@pytest.mark.parametrize(
    "module", ["model.layers.1", "transformer.h.1", "blocks.1.hook_resid_post"]
)
def test_a_layer_is_known_by_any_of_its_names(
    described: Store, tmp_path: Path, module: str
) -> None:
    write(tmp_path / "explanations", f"{module}_latent4", "four")
    import_labels(described.path, tmp_path / "explanations")
    assert open_store(described.path).descriptions([4])["label"].item() == "four"


@pytest.mark.parametrize("module", ["layers.11", "layers.1.mlp", "layersX1", "xlayers.1"])
def test_another_module_is_refused_by_name_unless_it_is_asked_for(
    described: Store, tmp_path: Path, module: str
) -> None:
    write(tmp_path / "explanations", "layers.1_latent4", "mine")
    write(tmp_path / "explanations", f"{module}_latent4", "theirs")
    with pytest.raises(ModelError, match=rf"is for {module}, but .*--source {module}"):
        import_labels(described.path, tmp_path)
    assert open_store(described.path).descriptions([4])["label"].item() == "label 4 of word"
    assert import_labels(described.path, tmp_path, source=module) == (1, 1)
    assert open_store(described.path).descriptions([4])["label"].item() == "theirs"
    with pytest.raises(ModelError, match=r"no explanation of nonsense; it has .*layers\.1"):
        import_labels(described.path, tmp_path, source="nonsense")


def test_what_cannot_be_read_is_named_and_changes_nothing(described: Store, tmp_path: Path) -> None:
    for number, (complaint, name, content) in enumerate(
        [
            ("there is no feature 48; the SAE has 48", "layers.1_latent48", "x"),
            ("is not named as delphi names explanations", "four", "x"),
            ("an explanation is a JSON string, not 5", "layers.1_latent5", 5),
        ]
    ):
        folder = tmp_path / str(number)
        write(folder, "layers.1_latent0", "fine")
        write(folder, name, content)
        with pytest.raises(ModelError, match=complaint) as raised:
            import_labels(described.path, folder)
        assert f"{name}.txt" in str(raised.value)
    write(tmp_path / "r" / "explanations", "layers.1_latent0", "fine")
    (tmp_path / "r" / "explanations" / "layers.1_latent1.txt").write_text("no JSON")
    with pytest.raises(ModelError, match=r"latent1\.txt cannot be read as JSON"):
        import_labels(described.path, tmp_path / "r")
    write(tmp_path / "r" / "explanations", "layers.1_latent1", "fine")
    write(tmp_path / "r" / "scores" / "fuzz", "layers.1_latent1", {"accuracy": 1})
    with pytest.raises(ModelError, match="scores are a JSON list"):
        import_labels(described.path, tmp_path / "r")
    with pytest.raises(ModelError, match="no type to choose by"):
        import_labels(described.path, tmp_path / "r", kind="np_max-act")
    assert open_store(described.path).descriptions([0])["label"].item() == "label 0 of word"
