from collections.abc import Callable
from contextlib import closing

import duckdb
import pytest

from trimtab.pairs.sample import Sample
from trimtab.store import Store
from trimtab.store.catalog import CATALOG

Pairs = Callable[..., list[Sample]]
Build = Callable[..., Store]


def test_a_sound_store_has_no_problems(store: Store) -> None:
    assert store.verify() == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE data.activations SET value = 'nan' WHERE rowid = 5", "not finite"),
        ("UPDATE data.activations SET feature = 48 WHERE rowid = 5", "does not exist"),
        ("UPDATE data.activations SET position = 900 WHERE rowid = 5", "no token"),
        ("UPDATE data.activations SET position = 0 WHERE rowid = 5", "position 0"),
        ("UPDATE data.pooled SET mean = mean * 1.01 WHERE rowid = 5", "not the pooling"),
        ("UPDATE data.pooled SET n_active = n_active + 1 WHERE rowid = 5", "not the pooling"),
        ("DELETE FROM data.tokens WHERE rowid = 5", "not the tokens that were counted"),
        ("DELETE FROM data.pooled WHERE rowid = 5", "not the pooling"),
        (
            "UPDATE data.residuals SET mean ="
            " list_resize([]::FLOAT[], 16, 'inf'::FLOAT)::FLOAT[16] WHERE rowid = 1",
            "residuals are not finite",
        ),
    ],
)
def test_numbers_that_cannot_be_are_found(
    built: Build, make_pairs: Pairs, change: str, complaint: str
) -> None:
    store = built(make_pairs(3))
    with closing(duckdb.connect(store.path / CATALOG)) as connection:
        connection.execute(change)
    assert any(complaint in problem for problem in store.verify())


def test_a_damaged_plan_is_found(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(2))
    (path,) = (store.path / "plan").iterdir()
    path.write_bytes(path.read_bytes() + b"\n")
    assert any("damaged" in problem for problem in store.verify())


def test_a_changed_header_is_found(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(2))
    store.fingerprint["model"] = "another"
    assert any("belongs to the fingerprint" in problem for problem in store.verify())
