"""A store in other tools' shapes holds what the store holds, and comes back as it went."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from trimtab.errors import ModelError, StoreError
from trimtab.model.features.descriptions import relabel
from trimtab.model.language_model import LanguageModel
from trimtab.store import Store, build, open_store, set_descriptions
from trimtab.store.labels import delphi_export, export_labels, import_labels, neuronpedia_export

KEY = ["feature", "row", "place"]


def read_batches(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("batch-*.jsonl.gz"), key=lambda file: int(file.name[6:-9]))
    return [json.loads(line) for file in files for line in gzip.open(file)]


def read_latents(folder: Path) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows of feature, row, place and value, and the tokens, as delphi's loader puts them."""
    parts = []
    for file in folder.glob("*.safetensors"):
        start, end = map(int, file.stem.split("_"))
        tensors = load_file(file)
        locations = tensors["locations"].astype(np.int64)
        assert tensors["activations"].dtype == np.float16
        assert (locations[:, 2] <= end - start).all()
        columns = dict(zip(("row", "place", "feature"), locations.T, strict=True))
        frame = pl.DataFrame({**columns, "value": tensors["activations"].astype(np.float32)})
        parts.append(frame.with_columns(pl.col("feature") + start))
    return pl.concat(parts), tensors["tokens"]


def content_of(folder: Path) -> dict[Path, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder): file.read_bytes() for file in files}


def texts_of(store: Store) -> list[tuple[tuple[str, str, str], list[dict[str, Any]]]]:
    """Sequences in the store's order, each with its tokens."""
    rows = store.sql(
        "SELECT t.*, sample FROM tokens t JOIN samples USING (behavior, sample_id)"
        " ORDER BY sample, side, position"
    )
    place = ["behavior", "sample_id", "side"]
    return [(key, part.to_dicts()) for key, part in rows.group_by(place, maintain_order=True)]


@pytest.mark.parametrize("format_", ["neuronpedia", "delphi"])
def test_labels_that_went_out_come_back_the_same(
    described: Store, tmp_path: Path, format_: str
) -> None:
    hostile = relabel(described.descriptions(), {5: "[b]“☂”\n\x00'; --", 6: "six"}, "mine")
    store = set_descriptions(described.path, hostile)
    export_labels(store, tmp_path / "out", format=format_)
    set_descriptions(store.path, relabel(hostile, dict.fromkeys(range(48), "forgotten"), "nobody"))
    assert import_labels(store.path, tmp_path / "out") == (48, 0)
    again = open_store(store.path).descriptions()
    assert again["label"].equals(hostile["label"])
    assert all(source.startswith(format_) for source in again["label_source"])


def test_delphis_latents_are_the_stores_activations(store: Store, tmp_path: Path) -> None:
    export_labels(store, tmp_path / "out", format="delphi")
    found, tokens = read_latents(tmp_path / "out" / "latents" / "layers.1")
    rows: dict[tuple[str, str, str], int] = {}
    lines: list[list[int]] = []
    for key, text in texts_of(store):
        rows[key] = len(lines)
        ids = [token["token_id"] for token in text]
        lines += [ids[i : i + 32] for i in range(0, len(ids), 32)]
    padding = store.sql("SELECT mode(token_id) FROM tokens WHERE position = 0").item()
    assert tokens.tolist() == [line + [padding] * (32 - len(line)) for line in lines]
    assert any(len(line) < 32 for line in lines)
    assert len(lines) > len(rows)  # some text takes more than one row

    starts = {key: text[0]["position"] for key, text in texts_of(store)}
    expected = []
    for one in store.sql("FROM activations").iter_rows(named=True):
        key = one["behavior"], one["sample_id"], one["side"]
        row, place = divmod(one["position"] - starts[key], 32)
        expected.append((one["feature"], rows[key] + row, place, float(np.float16(one["value"]))))
    schema = {**dict.fromkeys(KEY, pl.Int64), "value": pl.Float32}
    wanted = pl.DataFrame(expected, schema=schema, orient="row")
    assert found.select(*schema).sort(KEY).equals(wanted.sort(KEY))


def test_delphis_files_tile_the_features_and_say_what_is_known(
    store: Store, tmp_path: Path
) -> None:
    export_labels(store, tmp_path / "out", format="delphi")
    folder = tmp_path / "out" / "latents" / "layers.1"
    files = [tuple(map(int, file.stem.split("_"))) for file in folder.glob("*.safetensors")]
    covered = [feature for start, end in sorted(files) for feature in range(start, end + 1)]
    assert covered == list(range(48))
    tensors = load_file(next(folder.glob("*.safetensors")))
    assert tensors["locations"].dtype == np.uint16
    assert tensors["tokens"].dtype == np.int64
    config = json.loads((folder / "config.json").read_text())
    assert config == {
        "ctx_len": 32,
        "n_tokens": tensors["tokens"].size,
        "n_splits": 5,
        "model_name": "tiny-llama",
    }


def test_many_rows_take_wider_locations(store: Store) -> None:
    for n_rows, dtype in ((1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)):
        locations, activations = delphi_export._split(store, 0, 9, n_rows)
        assert locations.dtype == dtype
        assert len(locations) == len(activations) > 0
        assert locations.flags.c_contiguous


def test_neuronpedias_activations_are_the_strongest_texts_token_by_token(
    described: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neuronpedia_export, "BATCH", 20)
    monkeypatch.setattr(neuronpedia_export, "TOP", 3)
    export_labels(described, tmp_path / "out")
    texts = {key: [t["text"] for t in text] for key, text in texts_of(described)}
    start = {key: text[0]["position"] for key, text in texts_of(described)}
    found = read_batches(tmp_path / "out" / "activations")
    assert len(list((tmp_path / "out" / "activations").iterdir())) == 3
    pooled = described.sql(
        "FROM pooled QUALIFY row_number() OVER (PARTITION BY feature"
        " ORDER BY max DESC, behavior, sample_id, side) <= 3"
        " ORDER BY feature, max DESC, behavior, sample_id, side"
    )
    assert len(found) == pooled.height > 100
    for row, top in zip(found, pooled.iter_rows(named=True), strict=True):
        key = top["behavior"], top["sample_id"], top["side"]
        assert (row["modelId"], row["layer"]) == ("tiny-llama", "1-tiny")
        assert row["index"] == str(top["feature"])
        assert row["dataIndex"] == f"{top['sample_id']}/{top['side']}"
        assert row["dataSource"] == top["behavior"]
        assert row["tokens"] == texts[key]
        active = described.sql(
            "SELECT position, value FROM activations WHERE feature = ? AND behavior = ?"
            " AND sample_id = ? AND side = ?",
            [top["feature"], *key],
        )
        values = [0.0] * len(texts[key])
        for position, value in active.iter_rows():
            values[position - start[key]] = value
        assert row["values"] == values
        assert row["maxValue"] == max(values) == top["max"]
        assert row["values"][row["maxValueTokenIndex"]] == row["maxValue"]
        assert row["minValue"] == min(values)


def test_neuronpedias_features_say_what_the_store_measured(
    described: Store, tmp_path: Path
) -> None:
    export_labels(described, tmp_path / "out")
    rows = read_batches(tmp_path / "out" / "features")
    known = described.sql("FROM features ORDER BY feature").to_dicts()
    assert [row["index"] for row in rows] == [str(row["feature"]) for row in known]
    for row, fact in zip(rows, known, strict=True):
        assert row["maxActApprox"] == fact["max"]
        assert row["frac_nonzero"] == fact["firing_rate"]
        assert row["pos_str"] == [f" up{fact['feature']}", " word"]
        assert row["neg_str"] == [f" down{fact['feature']}", " word"]
        assert row["hookName"] == "blocks.1.hook_resid_post"
    explained = read_batches(tmp_path / "out" / "explanations")
    assert [row["notes"] for row in explained] == ["automatic"] * 48


def test_an_export_is_the_same_twice(described: Store, tmp_path: Path) -> None:
    for format_ in ("neuronpedia", "delphi"):
        for name in ("one", "two"):
            export_labels(described, tmp_path / f"{format_}-{name}", format=format_)
        one, two = (content_of(tmp_path / f"{format_}-{name}") for name in ("one", "two"))
        assert one == two
        assert one


def test_a_store_without_labels_exports_its_activations(bare: Store, tmp_path: Path) -> None:
    export_labels(bare, tmp_path / "np")
    assert not (tmp_path / "np" / "explanations").exists()
    assert "pos_str" not in read_batches(tmp_path / "np" / "features")[0]
    export_labels(bare, tmp_path / "delphi", format="delphi")
    assert not list((tmp_path / "delphi" / "explanations").iterdir())
    assert read_latents(tmp_path / "delphi" / "latents" / "layers.1")[0].height


def test_a_value_that_float16_cannot_hold_is_refused_and_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        delphi_export,
        "_ACTIVATIONS",
        delphi_export._ACTIVATIONS.replace("value FROM", "value * 1e9 AS value FROM"),
    )
    with pytest.raises(StoreError, match="delphi's float16 ends at 65504"):
        export_labels(store, tmp_path / "out", format="delphi")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(
    store: Store, tmp_path: Path, tiny_model: LanguageModel
) -> None:
    with pytest.raises(StoreError, match="unknown format 'onnx'; choose from neuronpedia, delphi"):
        export_labels(store, tmp_path / "out", format="onnx")
    with pytest.raises(StoreError, match="already exists"):
        export_labels(store, tmp_path)
    with pytest.raises(StoreError, match="is not a folder; create it first"):
        export_labels(store, tmp_path / "a" / "b")
    dense = build(tmp_path / "dense", store.samples()[:2], tiny_model, None, progress=False)
    with pytest.raises(ModelError, match="built without an SAE"):
        export_labels(dense, tmp_path / "out")
    with pytest.raises(ModelError, match="built without an SAE"):
        import_labels(dense.path, tmp_path)
