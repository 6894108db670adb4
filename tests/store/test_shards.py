from itertools import islice
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
    (path,) = tmp_path.glob("0-a.*.activations.parquet")
    path.chmod(0o644)
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
    (tmp_path / "2-c.01234567.activations.parquet.89abcdef.tmp").write_bytes(b"half")
    sweep(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name.split(".")[0] for name in left] == ["0-a", "0-a"]
    assert [Path(name).suffix for name in left] == [".parquet", ".json"]
    discard(tmp_path, "0-a")
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_is_read_only(tmp_path: Path, rows: pl.DataFrame) -> None:
    write_shard(tmp_path, "0-a", {"activations": rows}, FACTS)
    (path,) = shard_files(tmp_path, read_markers(tmp_path).values(), "activations")
    assert Path(path).stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("order", ["aab", "aba", "abb", "bab"])
def test_whoever_wins_a_race_on_a_task_its_shard_is_whole(
    tmp_path: Path, rows: pl.DataFrame, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers whose numbers differ by rounding; `order` says whose file lands when."""
    writing: dict[str, list[tuple[Path, bytes]]] = {"a": [], "b": []}
    for side, factor in (("a", 1.0), ("b", 1.0000001)):
        tables = {
            "activations": rows.with_columns(pl.col("value") * factor),
            "samples": pl.DataFrame({"sample": [0 if side == "a" else 1]}),
        }
        with monkeypatch.context() as patch:
            patch.setattr(
                "trimtab.store.shards.write_atomically",
                lambda path, data, side=side, **_: writing[side].append((path, data)),
            )
            write_shard(tmp_path, "0-a", tables, FACTS)
    turns = {side: iter(files) for side, files in writing.items()}
    for side in order + "ab" * 3:  # until both are through
        for path, data in islice(turns[side], 1):
            path.write_bytes(data)
    assert shard_problems(tmp_path, "0-a", read_markers(tmp_path)["0-a"], "abc") == []
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
