from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from trimtab.store.shards import (
    content_hash,
    discard,
    read_markers,
    shard_files,
    shard_problems,
    sweep,
    write_shard,
)

FACTS = {"fingerprint": "abc"}


def rows_of(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sequence": [4, 1, 1],
            "position": [1, 2, 1],
            "feature": [7, 9, 7],
            "value": [1.0, 2.0, 3],
        },
        schema_overrides={"sequence": pl.UInt32, "position": pl.UInt16, "feature": pl.UInt32},
    )


def test_a_shard_is_sorted_by_feature_and_names_its_fingerprint(
    tmp_path: Path, rows: pl.DataFrame
) -> None:
    write_shard(tmp_path, "0-a", {"activations": rows}, FACTS)
    (path,) = shard_files(tmp_path, read_markers(tmp_path).values(), "activations")
    assert pl.read_parquet(path)["feature"].to_list() == [7, 7, 9]
    metadata = rows_of(f"SELECT decode(key), decode(value) FROM parquet_kv_metadata('{path}')")
    assert dict(metadata)["trimtab_fingerprint"] == "abc"
    codecs = rows_of(f"SELECT DISTINCT compression FROM parquet_metadata('{path}')")
    assert codecs == [("ZSTD",)]


def test_the_same_rows_give_the_same_bytes_whatever_their_order(
    tmp_path: Path, rows: pl.DataFrame
) -> None:
    write_shard(tmp_path / "a", "0-a", {"activations": rows}, FACTS)
    write_shard(tmp_path / "b", "0-a", {"activations": rows.reverse()}, {**FACTS, "seconds": 3})
    hashes = {content_hash([], read_markers(tmp_path / side)) for side in "ab"}
    assert len(hashes) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "marker", "fingerprint"])
def test_damage_is_found_and_named(tmp_path: Path, rows: pl.DataFrame, damage: str) -> None:
    write_shard(tmp_path, "0-a", {"activations": rows}, FACTS)
    path = tmp_path / "0-a.activations.parquet"
    data = bytearray(path.read_bytes())
    assert shard_problems(tmp_path, "0-a", read_markers(tmp_path)["0-a"], "abc") == []
    if damage == "flip":
        data[20] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-9])
    elif damage == "remove":
        path.unlink()
    elif damage == "marker":
        (tmp_path / "0-a.json").write_text('{"task": "0-a", "fi')
    name = "other" if damage == "fingerprint" else "abc"
    (problem,) = shard_problems(tmp_path, "0-a", read_markers(tmp_path)["0-a"], name)
    assert "0-a" in problem


def test_sweeping_removes_what_no_marker_vouches_for(tmp_path: Path, rows: pl.DataFrame) -> None:
    write_shard(tmp_path, "0-a", {"activations": rows}, FACTS)
    write_shard(tmp_path, "1-b", {"activations": rows}, FACTS)
    (tmp_path / "1-b.json").unlink()
    (tmp_path / "2-c.activations.parquet.tmp").write_bytes(b"half")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0-a.activations.parquet",
        "0-a.json",
    ]
    discard(tmp_path, "0-a")
    assert list(tmp_path.iterdir()) == []
