import json
from collections.abc import Callable
from contextlib import closing

import duckdb
import polars as pl
import pytest

from trimtab.errors import StoreError
from trimtab.pairs.sample import Sample
from trimtab.store import Store, open_store
from trimtab.store.catalog.catalog import CATALOG, SEALS
from trimtab.store.checked import checksum
from trimtab.store.shards import read_markers, write_shard

Pairs = Callable[..., list[Sample]]
Build = Callable[..., Store]


def test_a_sound_store_has_no_problems(store: Store) -> None:
    assert store.verify() == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE pooled SET mean = mean * 1.01 WHERE rowid = 5", "do not match the stored"),
        ("UPDATE pooled SET last = last + 1 WHERE rowid = 5", "do not match the stored"),
        ("UPDATE pooled SET max = max * 2 WHERE rowid = 5", "do not match the stored"),
        ("UPDATE pooled SET n_active = n_active + 1 WHERE rowid = 5", "do not match the stored"),
        ("UPDATE pooled SET peak = peak + 1 WHERE rowid = 5", "do not peak at the recorded"),
        ("DELETE FROM pooled WHERE rowid = 5", "do not match the stored"),
        ("DELETE FROM features WHERE rowid = 5", "do not match their activations"),
        ("UPDATE features SET n_samples = 0 WHERE rowid = 5", "do not match their activations"),
        ("DELETE FROM tokens WHERE rowid = 5", "not have as many tokens as were counted"),
        ("DELETE FROM tokens WHERE rowid = 5", "a position that holds no token"),
        ("UPDATE samples SET n_prompt_tokens = 3 WHERE rowid = 1", "not have as many tokens"),
        (
            "UPDATE residuals SET mean ="
            " list_resize([]::FLOAT[], 16, 'inf'::FLOAT)::FLOAT[16] WHERE rowid = 1",
            "residuals are not finite",
        ),
    ],
)
def test_a_catalog_that_is_not_of_the_shards_is_found(
    built: Build, make_pairs: Pairs, change: str, complaint: str
) -> None:
    store = built(make_pairs(3))
    store.catalog.close()  # one process must not write what it reads
    with closing(duckdb.connect(store.path / CATALOG)) as connection:
        connection.execute(change)
    (found,) = store.verify()
    assert "was changed since it was built" in found
    (store.path / SEALS).write_text(json.dumps([checksum(store.path / CATALOG)]))
    assert any(complaint in problem for problem in store.verify())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE residuals SET mean = [x * 1.01 FOR x IN mean::FLOAT[]]::FLOAT[16] WHERE rowid = 1",
        "UPDATE contrast SET auc = 1 - auc",
        "UPDATE tokens SET text = 'other' WHERE rowid = 1",
    ],
)
def test_numbers_of_a_catalog_that_could_be_are_found_and_mended_if_they_are_not_the_shards(
    built: Build, make_pairs: Pairs, change: str
) -> None:
    store = built(make_pairs(3))
    store.catalog.close()
    table = change.split()[1]
    with closing(duckdb.connect(store.path / CATALOG)) as connection:
        before = connection.sql(f"FROM {table}").pl()
        connection.execute(change)
    (found,) = store.verify()
    assert "catalog.duckdb was changed since it was built" in found
    assert built(make_pairs(3)).verify() == []
    assert open_store(store.path).sql(f"FROM data.{table}").equals(before)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"value": 0.0}, "not finite"),
        ({"value": float("nan")}, "not finite"),
        ({"value": float("inf")}, "not finite"),
        ({"feature": 48.0}, "does not exist"),
        ({"position": 0.0}, "position 0"),
    ],
)
def test_a_shard_whose_numbers_cannot_be_is_found(
    built: Build, make_pairs: Pairs, change: dict[str, float], complaint: str
) -> None:
    store = built(make_pairs(3))
    commit_changed(store, change)
    assert any(complaint in problem for problem in open_store(store.path).verify())


def test_a_shard_with_activations_of_no_token_makes_no_catalog(
    built: Build, make_pairs: Pairs
) -> None:
    for name, value in {"position": 900.0, "sequence": 900.0}.items():
        store = built(make_pairs(3), name)
        commit_changed(store, {name: value})
        (store.path / CATALOG).unlink()
        with pytest.raises(StoreError, match=r"activations\.parquet holds activations where"):
            open_store(store.path)


def commit_changed(store: Store, change: dict[str, float]) -> None:
    """Commit the first shard again as if its first activation had been captured otherwise."""
    folder = store.path / "shards"
    task, marker = min(read_markers(folder).items())
    tables = {
        name: pl.read_parquet(folder / file["file"]) for name, file in marker["files"].items()
    }
    first = pl.int_range(pl.len()) == 0
    rows = tables["activations"]
    tables["activations"] = rows.with_columns(
        pl.when(first)
        .then(pl.lit(value).cast(rows.schema[name]))
        .otherwise(pl.col(name))
        .alias(name)
        for name, value in change.items()
    )
    write_shard(folder, task, tables, {"fingerprint": marker["fingerprint"]})


def test_a_missing_catalog_is_found(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(2))
    (store.path / CATALOG).unlink()
    assert any("missing or unreadable" in problem for problem in store.verify())


def test_a_damaged_plan_is_found(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(2))
    (path,) = (store.path / "plan").iterdir()
    path.write_bytes(path.read_bytes() + b"\n")
    assert any("damaged" in problem for problem in store.verify())


def test_a_store_of_negative_activations_is_sound(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(3))
    commit_changed(store, {"value": -3e6})
    assert open_store(store.path).verify() == []


def test_a_changed_header_is_found(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(2))
    store.fingerprint["model"] = "another"
    assert any("belongs to the fingerprint" in problem for problem in store.verify())
