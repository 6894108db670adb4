import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest

from trimtab.errors import QueryError
from trimtab.store import query, tables


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sandbox") / "catalog.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS i, range % 7 AS f FROM range(1000)")
        connection.execute("CREATE VIEW v AS FROM t")
    return path


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"i": [1, 2, 3]}).write_parquet(path)
    return path


@pytest.fixture
def in_memory(parquet: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with tables({"t": parquet}) as connection:
        yield connection


def test_selects_with_parameters_run(catalog: Path) -> None:
    assert query(catalog, "SELECT count(*) FROM v WHERE f = ?", [3]).item() == 143
    assert query(catalog, "SELECT count(*) FROM t WHERE f = $f", {"f": 3}).item() == 143
    assert query(catalog, "WITH x AS (SELECT 1 AS a) FROM x").item() == 1
    assert query(catalog, "SHOW TABLES").to_series().to_list() == ["t", "v"]
    assert query(catalog, "DESCRIBE t").height == 2


def test_rows_are_capped_in_the_order_asked_for(catalog: Path) -> None:
    rows = query(catalog, "SELECT i FROM t ORDER BY i DESC", max_rows=3)
    assert rows["i"].to_list() == [999, 998, 997]
    assert query(catalog, "SHOW TABLES", max_rows=1).height == 1


@pytest.mark.parametrize(
    "sql",
    [
        "COPY t TO '{out}'",
        "COPY t TO '{out}' (USE_TMP_FILE false)",
        "EXPORT DATABASE '{out}'",
        "ATTACH '{out}'",
        "INSTALL httpfs",
        "LOAD parquet",
        "SET memory_limit = '8GB'",
        "RESET lock_configuration",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "CHECKPOINT",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE MACRO f() AS 1",
        "INSERT INTO t VALUES (1, 2)",
        "DELETE FROM t",
        "DROP TABLE t",
        "UPDATE t SET i = 0",
        "BEGIN",
        "USE memory",
        "EXPLAIN ANALYZE COPY t TO '{out}'",
        "PREPARE x AS SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY t TO '{out}'",
        "",
        "-- nothing",
        "WITH x AS (INSERT INTO t VALUES (1, 2) RETURNING *) SELECT * FROM x",
        "WITH x AS (DELETE FROM t RETURNING *) SELECT count(*) FROM x",
        "SELECT * FROM query('COPY t TO ''{out}''')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('{parquet}')",
        "SELECT * FROM read_parquet('{parquet}')",
        "SELECT * FROM parquet_metadata('{parquet}')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '{parquet}'",
        "SELECT * FROM python_frame",
        "SELECT getenv('HOME')",
        "SELECT nothing FROM t",
        "SELEC",
    ],
)
def test_everything_else_is_refused(catalog: Path, parquet: Path, tmp_path: Path, sql: str) -> None:
    python_frame = pl.DataFrame({"secret": [1]})
    before = catalog.read_bytes()
    with pytest.raises(QueryError):
        query(catalog, sql.format(out=tmp_path / "out", parquet=parquet))
    assert python_frame.height == 1
    assert catalog.read_bytes() == before
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(100000000000)",
        "SELECT count(*) FROM t a, t b, t c, t d WHERE (a.i * b.i + c.i * d.i) % 1009 = 7",
        "WITH RECURSIVE x AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM x) SELECT max(a) FROM x",
    ],
)
def test_an_endless_query_is_stopped(catalog: Path, sql: str) -> None:
    start = time.monotonic()
    with pytest.raises(QueryError, match=r"stopped after 0\.3 seconds"):
        query(catalog, sql, timeout=0.3)
    assert time.monotonic() - start < 10


def test_a_greedy_query_is_stopped(catalog: Path) -> None:
    with pytest.raises(QueryError, match="Memory"):
        query(catalog, "SELECT list(a.i || '-' || b.i) FROM t a, t b, t c", memory="50MB")


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"none\.duckdb"):
        query(tmp_path / "none.duckdb", "SELECT 1")
    (tmp_path / "text.duckdb").write_text("not a database " * 100)
    with pytest.raises(QueryError, match=r"text\.duckdb"):
        query(tmp_path / "text.duckdb", "SELECT 1")


def test_readers_at_once_do_not_disturb_each_other(catalog: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        counts = pool.map(
            lambda f: query(catalog, "SELECT count(*) FROM t WHERE f = ?", [f]), [1] * 8
        )
        assert {count.item() for count in counts} == {143}


def test_parquet_files_are_queried_in_memory(in_memory: duckdb.DuckDBPyConnection) -> None:
    assert query(in_memory, "SELECT sum(i) FROM t").item() == 6
    assert query(in_memory, "SELECT sum(i) FROM t").item() == 6


@pytest.mark.parametrize(
    "sql",
    [
        "COPY t TO '{out}'",
        "SELECT * FROM read_parquet('{parquet}')",
        "SELECT * FROM '{parquet}'",
        "SET enable_external_access = true",
        "DROP TABLE t",
    ],
)
def test_tables_in_memory_are_behind_the_same_walls(
    in_memory: duckdb.DuckDBPyConnection, parquet: Path, tmp_path: Path, sql: str
) -> None:
    with pytest.raises(QueryError):
        query(in_memory, sql.format(out=tmp_path / "out", parquet=parquet))


def test_tables_from_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"none\.parquet"):
        tables({"t": tmp_path / "none.parquet"})
