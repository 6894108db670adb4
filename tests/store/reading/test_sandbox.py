import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import polars as pl
import pytest

from trimtab.errors import QueryError
from trimtab.pairs.sample import Sample
from trimtab.store import Store, query, tables
from trimtab.store.catalog.catalog import CATALOG, DESCRIPTIONS
from trimtab.store.reading.sandbox import enclosed

Connection = duckdb.DuckDBPyConnection


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sandbox") / "catalog.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS i, range % 7 AS f FROM range(1000)")
    return path


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"i": [1, 2, 3]}).write_parquet(path)
    return path


def enter(catalog: Path, **bounds: str) -> Connection:
    """Open a sandbox around a database file."""

    def prepare(connection: Connection) -> list[Path]:
        connection.execute(f"ATTACH '{catalog}' AS data (READ_ONLY)")
        connection.execute("CREATE VIEW t AS FROM data.t")
        connection.execute("CREATE VIEW v AS FROM data.t")
        return []

    return enclosed(prepare, **bounds)


@pytest.fixture(scope="module")
def sandbox(catalog: Path) -> Iterator[Connection]:
    with closing(enter(catalog)) as connection:
        yield connection


@pytest.fixture
def in_memory(parquet: Path) -> Iterator[Connection]:
    with closing(tables({"t": parquet}, {"doubled": "SELECT 2 * i AS j FROM t"})) as connection:
        yield connection


@pytest.fixture(scope="module")
def files(store: Store) -> dict[str, str]:
    """A shard, another store's file, and others that a query may name."""
    (shard, *_) = sorted((store.path / "shards").glob("*.activations.parquet"))
    return {"shard": str(shard), "header": str(store.path / "store.json"), "store": str(store.path)}


def everything(store: Store) -> dict[str, tuple[int, int]]:
    found = (file for file in store.path.rglob("*") if file.is_file())
    return {str(f): (f.stat().st_mtime_ns, f.stat().st_size) for f in found}


def test_selects_with_parameters_run(sandbox: Connection) -> None:
    assert query(sandbox, "SELECT count(*) FROM v WHERE f = ?", [3]).item() == 143
    assert query(sandbox, "SELECT count(*) FROM t WHERE f = $f", {"f": 3}).item() == 143
    assert query(sandbox, "WITH x AS (SELECT 1 AS a) FROM x").item() == 1
    assert query(sandbox, "SHOW TABLES").to_series().to_list() == ["t", "v"]
    assert query(sandbox, "DESCRIBE t").height == 2


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1;",
        "SELECT 1 -- one; two",
        "SELECT 1; -- one; two",
        "; SELECT 1 /* a; /* b; */ */ ;;",
        '-- é;\nSELECT 1 AS "é;" ; -- é;\n',
    ],
)
def test_semicolons_and_comments_do_no_harm(sandbox: Connection, sql: str) -> None:
    assert query(sandbox, sql).item() == 1
    assert query(sandbox, sql, max_rows=5).item() == 1


def test_semicolons_in_texts_stay(sandbox: Connection) -> None:
    sql = "SELECT 'é;' || $$;$$ || $a$;--$a$ || e'\\';' || ? ;"
    assert query(sandbox, sql, [";"]).item() == "é;;;--';;"


def test_columns_of_one_name_are_numbered(sandbox: Connection) -> None:
    assert query(sandbox, "SELECT i, f, i FROM t").columns == ["i", "f", "i_1"]


def test_rows_come_in_the_order_asked_for(sandbox: Connection) -> None:
    sql = "SELECT hash(i) AS h FROM range(500000) t(i) ORDER BY h"
    rows = query(sandbox, sql)["h"]
    assert rows.len() == 500_000
    assert rows.is_sorted()
    assert query(sandbox, f"{sql} DESC")["h"].is_sorted(descending=True)


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("SELECT 'a'::INTEGER", "LINE 1: SELECT 'a'::INTEGER\n                  ^"),
        ("SELECT\n 'a'::INTEGER;", "LINE 2:  'a'::INTEGER \n            ^"),
        ("SELECT 1 +", "LINE 1: SELECT 1 +\n"),
    ],
)
def test_a_mistake_is_shown_where_it_was_written(sandbox: Connection, sql: str, place: str) -> None:
    with pytest.raises(QueryError) as raised:
        query(sandbox, sql)
    assert place in str(raised.value)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT INTERVAL 1 DAY AS x", "INTERVAL"),
        ("SELECT [{a: INTERVAL 1 DAY}] AS x", r"STRUCT\(a INTERVAL\)\[\]"),
        ("SELECT union_value(a := 1) AS x", r"UNION\(a INTEGER\)"),
        ("SELECT MAP {'a': union_value(a := 1)} AS x", r"MAP\(VARCHAR, UNION\(a INTEGER\)\)"),
    ],
)
def test_a_type_that_polars_lacks_is_refused_with_a_way_out(
    sandbox: Connection, sql: str, kind: str
) -> None:
    with pytest.raises(QueryError, match=f"column 'x' is of type {kind}.*::VARCHAR"):
        query(sandbox, sql)
    assert query(sandbox, f"SELECT x::VARCHAR AS y FROM ({sql})")["y"].dtype == pl.String


def test_a_pivot_must_name_its_columns(sandbox: Connection) -> None:
    with pytest.raises(QueryError, match=r"PIVOT samples ON status IN \('ok'"):
        query(sandbox, "PIVOT t ON f USING count(*)")
    assert query(sandbox, "PIVOT t ON f IN (1, 2) USING count(*)").columns == ["i", "1", "2"]


def test_rows_are_capped_in_the_order_asked_for(sandbox: Connection) -> None:
    rows = query(sandbox, "SELECT i FROM t ORDER BY i DESC", max_rows=3)
    assert rows["i"].to_list() == [999, 998, 997]
    assert query(sandbox, "SHOW TABLES", max_rows=1).height == 1


STATEMENTS = [
    "COPY samples TO '{out}'",
    "COPY samples TO '{shard}'",
    "COPY samples TO '{shard}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO '{shard}' (USE_TMP_FILE false)",
    "COPY samples FROM '{shard}'",
    "COPY FROM DATABASE data TO memory",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '{store}'",
    "ATTACH '{out}'",
    "ATTACH ':memory:' AS more",
    "DETACH data",
    "INSTALL httpfs",
    "LOAD parquet",
    "SET memory_limit = '80GB'",
    "SET enable_external_access = true",
    "SET VARIABLE x = 1",
    "RESET lock_configuration",
    "RESET allowed_paths",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CALL enable_logging('file')",
    "CHECKPOINT data",
    "VACUUM",
    "ANALYZE",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE VIEW samples AS SELECT 1",
    "CREATE OR REPLACE VIEW samples AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "CREATE SECRET (TYPE s3)",
    "CREATE TYPE mood AS ENUM ('x')",
    "ALTER TABLE data.tokens RENAME TO x",
    "INSERT INTO data.tokens VALUES (1, 2, 3, 'x')",
    "DELETE FROM data.tokens",
    "TRUNCATE data.tokens",
    "DROP TABLE data.tokens",
    "DROP VIEW samples",
    "UPDATE data.tokens SET token_id = 0",
    "MERGE INTO data.tokens t USING (SELECT 1 AS s) ON false WHEN MATCHED THEN DELETE",
    "BEGIN",
    "USE memory",
    "EXPLAIN ANALYZE COPY samples TO '{shard}' (USE_TMP_FILE false)",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY samples TO '{shard}' (USE_TMP_FILE false)",
    "",
    "-- nothing",
    "SELEC",
]
SELECTS = [
    "WITH x AS (INSERT INTO data.tokens VALUES (1, 2, 3, 'x') RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM data.tokens RETURNING *) SELECT count(*) FROM x",
    "WITH x AS (UPDATE data.tokens SET token_id = 0 RETURNING *) SELECT count(*) FROM x",
    "SELECT * FROM query('COPY samples TO ''{out}''')",
    "SELECT * FROM query('SELECT 1; DROP VIEW samples')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM query_table(['python_frame'])",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv('/dev/stdin')",
    "SELECT * FROM read_json('{header}')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_text('{header}')",
    "SELECT * FROM read_blob('{parquet}')",
    "SELECT * FROM read_blob('{store}/../*')",
    "SELECT * FROM read_parquet('{parquet}')",
    "SELECT * FROM read_parquet(['{shard}', '{parquet}'])",
    "SELECT * FROM read_parquet('{shard}/../*.parquet')",
    "SELECT * FROM read_parquet('https://example.org/x.parquet')",
    "SELECT * FROM read_duckdb('{parquet}')",
    "SELECT * FROM parquet_metadata('{parquet}')",
    "SELECT * FROM parquet_schema('{parquet}')",
    "SELECT * FROM parquet_kv_metadata('{parquet}')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM glob('{store}/*')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM '{parquet}'",
    "SELECT * FROM python_frame",
    "SELECT * FROM 'python_frame'",
    "SELECT * FROM enable_logging('file', storage_path = '{out}')",
    "SELECT * FROM enable_profiling()",
    "SELECT * FROM json_execute_serialized_sql('{{\"statements\": []}}')",
    "SELECT * FROM import_database('{store}')",
    "SELECT getenv('HOME')",
    "SELECT nothing FROM samples",
    "SELECT 1) UNION ALL (SELECT 2",
    "SELECT 1 /* open",
]


@pytest.mark.parametrize("sql", [*STATEMENTS, *SELECTS])
def test_everything_else_is_refused(
    store: Store, files: dict[str, str], parquet: Path, tmp_path: Path, sql: str
) -> None:
    python_frame = pl.DataFrame({"secret": [1]})
    before = everything(store)
    with pytest.raises(QueryError):
        store.sql(sql.format(out=tmp_path / "out", parquet=parquet, **files))
    assert python_frame.height == 1
    assert everything(store) == before
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM checkpoint('data')",
        "SELECT * FROM force_checkpoint('data')",
        "SELECT write_log('x', level := 'ERROR')",
        "SELECT * FROM truncate_duckdb_logs()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT getvariable('HOME')",
        "SELECT * FROM read_blob('{shard}')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    ],
)
def test_what_runs_of_the_odd_functions_changes_nothing(
    store: Store, files: dict[str, str], sql: str
) -> None:
    before = everything(store)
    store.sql(sql.format(**files))
    assert everything(store) == before


def test_a_store_is_sound_after_all_of_it(
    store: Store, files: dict[str, str], parquet: Path, tmp_path: Path
) -> None:
    for sql in [*STATEMENTS, *SELECTS]:
        with pytest.raises(QueryError):
            store.sql(sql.format(out=tmp_path / "out", parquet=parquet, **files))
    assert store.verify() == []
    assert store.sql("SELECT count(*) FROM samples").item() == 12


COPIES = [
    "WITH x AS ({copy}) SELECT * FROM x",
    "WITH x AS MATERIALIZED ({copy}) SELECT * FROM x; -- harmless",
    "(WITH x AS ({copy}) FROM x)",
    "SELECT (WITH x AS ({copy}) SELECT count(*) FROM x)",
    "DESCRIBE WITH x AS ({copy}) FROM x",
    "SUMMARIZE WITH x AS ({copy}) FROM x",
    "FROM (SUMMARIZE WITH x AS ({copy}) FROM x)",
    "PIVOT (WITH x AS ({copy}) FROM x) ON f IN (1) USING count(*)",
    "SELECT * FROM query($$WITH x AS ({copy}) SELECT * FROM x$$)",
    "EXPLAIN ANALYZE WITH x AS ({copy}) SELECT * FROM x",
    "{copy}",
]


@pytest.mark.parametrize("sql", COPIES)
def test_no_file_within_reach_is_overwritten(
    built: Callable[..., Store], make_pairs: Callable[..., list[Sample]], sql: str
) -> None:
    store = built(make_pairs(2))
    (shard, *_) = sorted((store.path / "shards").glob("*.activations.parquet"))
    catalog = store.path / CATALOG
    reached = [shard, catalog, Path(f"{catalog}.wal"), store.path / DESCRIPTIONS]
    before = contents(store)
    for file in reached:
        copy = f"COPY (SELECT 1 AS f) TO '{file}' (FORMAT csv, USE_TMP_FILE false)"
        for parameters, cap in ((None, None), ([], None), (None, 5)):
            with pytest.raises(QueryError, match=r"top level|only SELECT"):
                store.sql(sql.format(copy=copy), parameters, max_rows=cap)
    assert contents(store) == before


def contents(store: Store) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()}


def test_a_shard_would_be_overwritten_at_the_top_of_a_select(
    built: Callable[..., Store], make_pairs: Callable[..., list[Sample]]
) -> None:
    """Nothing but its place as a subquery stops it: the file has to be within reach to be read."""
    store = built(make_pairs(2))
    (shard, *_) = sorted((store.path / "shards").glob("*.activations.parquet"))
    shard.chmod(0o644)
    before = shard.read_bytes()
    copy = f"COPY (SELECT 1) TO '{shard}' (FORMAT parquet, USE_TMP_FILE false)"
    store.catalog.execute(f"WITH x AS ({copy}) SELECT * FROM x")
    assert shard.read_bytes() != before


@pytest.mark.parametrize(
    "changing",
    [
        "INSERT INTO t VALUES (4) RETURNING *",
        "UPDATE t SET i = 0 RETURNING *",
        "DELETE FROM t RETURNING *",
    ],
)
def test_tables_that_could_change_do_not(in_memory: Connection, changing: str) -> None:
    with pytest.raises(QueryError, match="must be at the top level"):
        query(in_memory, f"WITH x AS ({changing}) SELECT * FROM x")
    assert query(in_memory, "SELECT i FROM t ORDER BY i")["i"].to_list() == [1, 2, 3]


@pytest.mark.parametrize("character", ["*", "?", "["])
def test_a_path_that_is_a_pattern_is_refused(tmp_path: Path, character: str) -> None:
    with pytest.raises(QueryError, match=r"rows\.parquet cannot be read.*rename the folder"):
        tables({"t": tmp_path / f"a{character}b" / "rows.parquet"})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(hash(i)) FROM range(1000000000000) t(i)",
        "SELECT count(*) FROM t a, t b, t c, t d WHERE (a.i * b.i + c.i * d.i) % 1009 = 7",
        "WITH RECURSIVE x AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM x) SELECT max(a) FROM x",
    ],
)
def test_an_endless_query_is_stopped(sandbox: Connection, sql: str) -> None:
    start = time.monotonic()
    with pytest.raises(QueryError, match=r"stopped after 0\.3 seconds"):
        query(sandbox, sql, timeout=0.3)
    assert time.monotonic() - start < 10
    assert query(sandbox, "SELECT 1").item() == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list(a.i || '-' || b.i) FROM t a, t b, t c",
        "SELECT string_agg(repeat('x', 100000), '') FROM t",
    ],
)
def test_a_greedy_query_is_stopped_in_memory_and_on_the_disk(catalog: Path, sql: str) -> None:
    with closing(enter(catalog, memory="40MB", temporary_disk="4MB")) as small:
        with pytest.raises(QueryError, match=r"Memory|max_temp_directory_size"):
            query(small, sql, timeout=60)
        assert query(small, "SELECT count(*) FROM t").item() == 1000
        spill = Path(query(small, "SELECT current_setting('temp_directory')").item())
    assert not spill.exists()


def test_strings_that_no_bound_of_duckdb_counts_end_with_the_process_bound() -> None:
    program = """
from trimtab.errors import QueryError
from trimtab.store.reading.limits import limited_memory
from trimtab.store.reading.sandbox import enclosed, query
connection = enclosed(lambda _: [])
try:
    with limited_memory(500_000_000):
        query(connection, "SELECT max(length(repeat('x' || i, 10000000))) FROM range(2048) t(i)")
except QueryError as error:
    print(error)
connection.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "Out of Memory" in done.stdout, done
    assert done.returncode == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"none\.duckdb"):
        enter(tmp_path / "none.duckdb")
    with pytest.raises(QueryError, match=r"none\.parquet"):
        tables({"t": tmp_path / "none.parquet"})


def test_readers_at_once_do_not_disturb_each_other(sandbox: Connection) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        counts = pool.map(
            lambda f: query(sandbox, "SELECT count(*) FROM t WHERE f = ?", [f]), [1] * 8
        )
        assert {count.item() for count in counts} == {143}


def test_parquet_files_are_queried_in_memory(in_memory: Connection) -> None:
    assert query(in_memory, "SELECT sum(i) FROM t").item() == 6
    assert query(in_memory, "SELECT sum(j) FROM doubled").item() == 12


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
    in_memory: Connection, parquet: Path, tmp_path: Path, sql: str
) -> None:
    with pytest.raises(QueryError):
        query(in_memory, sql.format(out=tmp_path / "out", parquet=parquet))
