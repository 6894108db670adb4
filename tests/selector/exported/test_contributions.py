"""SQL over an exported vector's folder joins its receipt to samples and features."""

from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from trimtab.selector.exported.folder import tables as files
from trimtab.selector.exported.folder import views
from trimtab.store import query, tables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pl.DataFrame(
        {
            "sample_id": ["a", "b", "a"],
            "feature": [7, 7, 9],
            "share": [0.5, 0.25, 0.1],
            "contribution": [0.1, -2.0, 1.0],
        }
    ).write_parquet(tmp_path / "receipt.parquet")
    pl.DataFrame(
        {
            "sample_id": ["a", "b"],
            "group": ["x", "y"],
            "split": ["select", "select"],
            "prompt": ["Why?", "How?"],
            "positive": ["Because.", "So."],
            "negative": ["No.", None],
        }
    ).write_parquet(tmp_path / "samples.parquet")
    return tmp_path


def test_contributions_name_texts_and_labels_the_largest_first(folder: Path) -> None:
    pl.DataFrame({"feature": [7, 9], "label": ["sorry", None]}).write_parquet(
        folder / "features.parquet"
    )
    with closing(tables(files(folder), views(folder))) as connection:
        assert "contributions" in query(connection, "SHOW TABLES").to_series().to_list()
        rows = query(connection, "FROM contributions")
    assert rows["contribution"].to_list() == [-2.0, 1.0, 0.1]
    assert rows["label"].to_list() == ["sorry", None, "sorry"]
    assert rows["positive"].to_list() == ["So.", "Because.", "Because."]


def test_a_dense_vector_has_contributions_without_labels(folder: Path) -> None:
    for table in ("absent", "without labels"):
        if table != "absent":
            pl.DataFrame({"feature": [7, 9]}).write_parquet(folder / "features.parquet")
        with closing(tables(files(folder), views(folder))) as connection:
            assert query(connection, "SELECT label FROM contributions")["label"].null_count() == 3
