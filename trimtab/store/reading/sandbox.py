"""Run a person's SQL so that it can read what it is shown and do nothing else.

DuckDB has no privileges inside a process, so several walls stand behind one another:

1. exactly one statement, and it is a SELECT (also DESCRIBE, SHOW, SUMMARIZE, which parse as one):
   this is what stops a COPY onto a file that may be read;
2. databases are attached read-only, which is what stops a changing CTE inside a SELECT;
3. no file but those that are named, no network, extension, secret or Python variable is in reach,
   and no setting can be changed back;
4. memory, temporary disk and time are bounded.

This guards against accidents and pasted queries. Give strangers a process of their own.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import uuid4

import duckdb
import polars as pl

from trimtab.errors import QueryError

TIMEOUT = 120.0
MEMORY = "4GB"
TEMPORARY_DISK = "16GB"

Parameters = Sequence[Any] | Mapping[str, Any]

_WALLS = {
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "enable_external_access": "false",
    "lock_configuration": "true",  # must be the last
}


def enclosed(
    prepare: Callable[[duckdb.DuckDBPyConnection], Iterable[Path]],
    *,
    memory: str = MEMORY,
    temporary_disk: str = TEMPORARY_DISK,
) -> duckdb.DuckDBPyConnection:
    """Open a database in memory, `prepare` it, then shut it in for `query`.

    Args:
        prepare: attaches (read-only!), loads, makes views; returns the only files that can be read
            afterwards, beside attached databases.
        memory: what all queries together may hold, as DuckDB writes it, for instance "500MB".
        temporary_disk: what they may write into a folder of their own when memory runs short.

    Raises `QueryError` where `prepare` fails. Close the connection: left open, DuckDB's threads
    outlive the interpreter and abort the process at its end.
    """
    # DuckDB makes the folder when it needs it, and lets queries read it: it must be nobody else's.
    temporary = Path(tempfile.gettempdir()) / f"trimtab-{uuid4().hex}"
    connection = duckdb.connect(
        config={
            "memory_limit": memory,
            "temp_directory": str(temporary),
            "max_temp_directory_size": temporary_disk,
        }
    )
    try:
        connection.execute("SET parquet_metadata_cache = true")
        files = [str(file) for file in prepare(connection)]
        connection.execute(f"SET allowed_paths = {literal(files)}")
        for setting, value in _WALLS.items():
            connection.execute(f"SET {setting} = {value}")
    except BaseException as error:
        connection.close()
        if isinstance(error, duckdb.Error):
            raise QueryError(str(error)) from None
        raise
    return connection


def tables(
    files: Mapping[str, Path], views: Mapping[str, str] | None = None, *, memory: str = MEMORY
) -> duckdb.DuckDBPyConnection:
    """Load Parquet files into memory, one table each, and shut them in for `query`.

    `views` are made of them, by name. What a query changes is the copy in memory, and is gone when
    the connection closes. Raises `QueryError` where a file cannot be read.
    """

    def load(connection: duckdb.DuckDBPyConnection) -> Iterable[Path]:
        for name, file in files.items():
            connection.execute(f"CREATE TABLE {_name(name)} AS FROM {parquet([file])}")
        for name, sql in (views or {}).items():
            connection.execute(f"CREATE VIEW {_name(name)} AS {sql}")
        return []

    return enclosed(load, memory=memory)


def query(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    params: Parameters | None = None,
    *,
    max_rows: int | None = None,
    timeout: float = TIMEOUT,
) -> pl.DataFrame:
    """Run one SELECT in a connection that is shut in, and return its rows.

    Args:
        connection: as `enclosed` and `tables` return it; threads may share it.
        sql: one SELECT statement; `?`, `$1` or `$name` stand for parameters.
        params: values of the parameters; never paste values into the text.
        max_rows: return at most so many rows.
        timeout: seconds after which the query is stopped.

    Raises:
        QueryError: the statement is refused, fails, or goes over a bound.
    """
    with _relation(connection, sql, params, timeout) as relation:
        rows: pl.DataFrame = (relation if max_rows is None else relation.limit(max_rows)).pl()
        return rows


def count(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    params: Parameters | None = None,
    *,
    timeout: float = TIMEOUT,
) -> int:
    """Count the rows that one SELECT would return; the arguments are those of `query`."""
    with _relation(connection, sql, params, timeout) as relation:
        return int(relation.aggregate("count(*)").fetchall()[0][0])


@contextmanager
def _relation(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Parameters | None, timeout: float
) -> Iterator[duckdb.DuckDBPyRelation]:
    """Check a statement, and stop it after `timeout` seconds inside the context."""
    cursor = connection.cursor()
    timer = Timer(timeout, cursor.interrupt)
    timer.daemon = True
    try:
        statements = cursor.extract_statements(sql)
        if len(statements) != 1:
            raise QueryError(f"one statement at a time, please; this is {len(statements)}")
        if statements[0].type != duckdb.StatementType.SELECT:
            raise QueryError(
                f"only SELECT is allowed, not {statements[0].type.name};"
                " SHOW TABLES and DESCRIBE <table> say what there is"
            )
        timer.start()
        yield cursor.sql(statements[0], params=params)
    except duckdb.InterruptException:
        raise QueryError(f"the query was stopped after {timeout:g} seconds") from None
    except duckdb.Error as error:
        raise QueryError(str(error)) from None
    finally:
        timer.cancel()
        cursor.close()


def literal(value: str | Sequence[str]) -> str:
    """Write a string, or a list of strings, as SQL does: some statements take no parameters."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"[{', '.join(literal(part) for part in value)}]"


def parquet(files: Iterable[Path]) -> str:
    """Return the SQL of a table function that reads Parquet files."""
    return f"read_parquet({literal([str(file) for file in files])})"


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
