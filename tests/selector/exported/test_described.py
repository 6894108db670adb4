"""Descriptions are found wherever they lie, and where they do not, one line says so."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import FILE, write_descriptions
from trimtab.selector.exported.described import describe_features, labelled_features
from trimtab.steering.formats.stored import VECTOR_FILE

Make = Callable[..., pl.DataFrame]


def test_an_saes_folder_and_its_table_say_the_same(tmp_path: Path, descriptions: Make) -> None:
    table = descriptions(6)
    write_descriptions(table, tmp_path / FILE)
    (tmp_path / "card.json").write_text("{}")  # the packaged SAE's folder has one, too
    for of in (tmp_path, tmp_path / FILE):
        assert describe_features([5, 0], of) == [table.row(5, named=True), table.row(0, named=True)]


def test_what_an_exported_vector_has_no_label_of_is_not_described(
    tmp_path: Path, descriptions: Make
) -> None:
    table = descriptions(4).with_columns(label=pl.Series(["a", None, "c", None]))
    table.write_parquet(tmp_path / "features.parquet")
    (tmp_path / VECTOR_FILE).touch()
    assert describe_features([2], tmp_path) == [table.row(2, named=True)]
    with pytest.raises(ModelError, match="has no description of feature 1; it describes 2"):
        describe_features([1], tmp_path)


def test_where_nothing_is_described_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptions: Make
) -> None:
    with pytest.raises(ModelError, match=rf"{tmp_path} has no descriptions of features; `trimtab"):
        describe_features([0], tmp_path)
    monkeypatch.setattr("trimtab.model.features.descriptions.default_sae_folder", lambda: tmp_path)
    with pytest.raises(ModelError, match="the packaged SAE has no descriptions"):
        describe_features([0], None)
    write_descriptions(descriptions(2), tmp_path / FILE)
    assert describe_features([1], None)[0]["feature"] == 1
    with pytest.raises(ModelError, match="the packaged SAE has no description of feature 2"):
        describe_features([2], None)


def test_a_vector_of_before_there_were_labels_has_none(tmp_path: Path) -> None:
    assert labelled_features(tmp_path).is_empty()
    pl.DataFrame({"feature": [1], "contribution": [0.5]}).write_parquet(
        tmp_path / "features.parquet"
    )
    assert labelled_features(tmp_path).is_empty()
