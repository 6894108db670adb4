"""Neuronpedia's explanations in the place of a store's labels, all of them or none."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import FILE, read_descriptions, write_descriptions
from trimtab.store import Store, open_store
from trimtab.store.labels import import_labels

Row = Callable[..., dict[str, Any]]


def write(file: Path, *rows: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file.write_bytes(gzip.compress(lines) if file.suffix == ".gz" else lines)
    return file


def labels_of(path: Path) -> dict[int, str]:
    return dict(open_store(path).descriptions().select("feature", "label").iter_rows())


def test_labels_replace_the_automatic_ones_and_name_tool_explainer_and_file(
    described: Store, tmp_path: Path, row: Row
) -> None:
    write(tmp_path / "np" / "explanations-gpt" / "batch-0.jsonl.gz", row(4, "four"))
    write(tmp_path / "np" / "explanations-gpt" / "batch-1.jsonl.gz", row(7, "[b]☂'; --"))
    assert import_labels(described.path, tmp_path / "np") == (2, 0)
    store = open_store(described.path)
    assert labels_of(store.path) == {
        **{feature: f"label {feature} of word" for feature in range(48)},
        **{4: "four", 7: "[b]☂'; --"},
    }
    source = store.descriptions([4])["label_source"].item()
    assert (
        source == "neuronpedia tiny-llama/1-tiny, np_max-act by gpt-9,"
        " explanations-gpt/batch-0.jsonl.gz"
    )
    assert set(store.descriptions([1])["label_source"]) == {"automatic"}
    assert store.content_hash == described.content_hash
    assert (
        store.descriptions()
        .drop("label", "label_source")
        .equals(described.descriptions().drop("label", "label_source"))
    )


def test_a_store_without_descriptions_gets_labels_and_what_its_activations_tell(
    bare: Store, tmp_path: Path, row: Row
) -> None:
    fired = bare.sql("FROM features ORDER BY n_active DESC LIMIT 1").row(0, named=True)
    import_labels(bare.path, write(tmp_path / "e.jsonl", row(fired["feature"], "loud")))
    (loud,) = open_store(bare.path).descriptions([fired["feature"]]).to_dicts()
    assert (loud["label"], loud["max"]) == ("loud", pytest.approx(fired["max"]))
    assert loud["firing_rate"] == pytest.approx(fired["firing_rate"])
    rest = open_store(bare.path).descriptions().filter(pl.col("feature") != fired["feature"])
    assert set(rest["label"]) == {""}
    assert set(rest["label_source"]) == {"none"}


def test_the_newest_of_a_features_explanations_wins_wherever_it_stands(
    described: Store, tmp_path: Path, row: Row
) -> None:
    file = write(
        tmp_path / "e.jsonl",
        row(1, "undated", createdAt=None),
        row(1, "newest", createdAt="2026-02-01 10:00:00+00"),
        row(1, "older", createdAt="2025-12-31T23:59:59.999Z"),
        row(2, "old", createdAt="2026-01-01T00:30:00+02:00"),
        row(2, "newer by its zone", createdAt="2025-12-31T23:00:00Z"),
    )
    import_labels(described.path, file)
    assert labels_of(described.path)[1] == "newest"
    assert labels_of(described.path)[2] == "newer by its zone"


def test_a_type_that_is_asked_for_wins_over_newer_ones(
    described: Store, tmp_path: Path, row: Row
) -> None:
    file = write(
        tmp_path / "e.jsonl",
        row(1, "wanted", typeName="oai_token-act-pair"),
        row(1, "newer", createdAt="2026-01-01T00:00:00Z"),
        row(2, "of another type"),
    )
    assert import_labels(described.path, file, kind="oai_token-act-pair") == (1, 2)
    assert labels_of(described.path)[1] == "wanted"
    assert labels_of(described.path)[2] == "label 2 of word"
    with pytest.raises(ModelError, match="no explanation nonsense; it has tiny-llama/1-tiny np_"):
        import_labels(described.path, file, kind="nonsense")


def test_an_empty_explanation_leaves_the_label_as_it_is(
    described: Store, tmp_path: Path, row: Row
) -> None:
    file = write(tmp_path / "e.jsonl", row(1, "  "), row(2, "two"))
    assert import_labels(described.path, file) == (1, 0)
    assert labels_of(described.path)[1] == "label 1 of word"


@pytest.mark.parametrize("other", [{"modelId": "tiny-gpt"}, {"layer": "11-tiny"}])
def test_rows_of_another_sae_are_refused_by_name_unless_they_are_asked_for(
    described: Store, tmp_path: Path, row: Row, other: dict[str, str]
) -> None:
    file = write(tmp_path / "e.jsonl", row(1, "mine"), row(2, "theirs", **other))
    name = "/".join({"modelId": "tiny-llama", "layer": "1-tiny", **other}.values())
    with pytest.raises(ModelError, match=rf"e\.jsonl, line 2: this is for {name}.*--source {name}"):
        import_labels(described.path, file)
    assert labels_of(described.path)[1] == "label 1 of word"
    assert import_labels(described.path, file, source=name) == (1, 1)
    assert labels_of(described.path)[1] == "label 1 of word"
    assert labels_of(described.path)[2] == "theirs"


def test_bad_rows_are_named_by_file_and_line_and_change_nothing(
    described: Store, tmp_path: Path, row: Row
) -> None:
    for complaint, bad in {
        "there is no feature 48; the SAE has 48 features": row(48, "too far"),
        "'index' must be a feature's number, not '-1'": row(-1, "below"),
        "'index' must be a feature's number, not '٣'": row("٣", "a digit, and no ASCII"),
        "'description' must be text, not None": row(2, None),
        "'modelId' must be text, not 3": row(2, "x", modelId=3),
        "'createdAt' is not a time: 'yesterday'": row(2, "x", createdAt="yesterday"),
    }.items():
        file = write(tmp_path / "e.jsonl.gz", row(1, "fine"), bad)
        with pytest.raises(ModelError) as raised:
            import_labels(described.path, file)
        assert str(raised.value).startswith(f"{file}, line 2: {complaint}")
    (tmp_path / "cut.jsonl").write_text('{"modelId": "tiny-llama"')
    with pytest.raises(ModelError, match=r"cut\.jsonl, line 1: not JSON"):
        import_labels(described.path, tmp_path / "cut.jsonl")
    (tmp_path / "list.jsonl").write_text("[]\n")
    with pytest.raises(ModelError, match="line 1: a row must be an object"):
        import_labels(described.path, tmp_path / "list.jsonl")
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 99)[:-9])
    with pytest.raises(ModelError, match=r"torn\.jsonl\.gz"):
        import_labels(described.path, tmp_path / "torn.jsonl.gz")
    assert labels_of(described.path)[1] == "label 1 of word"


def test_an_saes_folder_takes_labels_too_and_its_configuration_says_whose(
    tmp_path: Path, row: Row, descriptions: Callable[..., pl.DataFrame]
) -> None:
    folder = tmp_path / "sae"
    folder.mkdir()
    write_descriptions(descriptions(6), folder / FILE)
    file = write(tmp_path / "e.jsonl", row(5, "five"))
    with pytest.raises(ModelError, match="an unnamed model"):
        import_labels(folder, file)
    (folder / "cfg.json").write_text(
        json.dumps({"metadata": {"model_name": "lab/Tiny-Llama", "hook_name": "blocks.1.x"}})
    )
    import_labels(folder, file)
    assert read_descriptions(folder / FILE)["label"].to_list()[4:] == ["label 4 of word", "five"]
    assert not list(folder.glob("*.tmp"))
    named = {"model_name": "else", "neuronpedia_id": "tiny-llama/1-tiny"}
    (folder / "cfg.json").write_text(json.dumps({"metadata": named}))
    assert import_labels(folder, write(file, row(5, "again"), row(4, "x", layer="2-tiny")))[1] == 1
    assert read_descriptions(folder / FILE)["label"].to_list()[4:] == ["label 4 of word", "again"]


def test_where_there_is_nothing_to_read_or_to_label_that_is_said(
    described: Store, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty holds no labels"):
        import_labels(described.path, tmp_path / "empty")
    with pytest.raises(ModelError, match="neither a store nor an SAE's folder"):
        import_labels(tmp_path / "empty", tmp_path / "empty")
