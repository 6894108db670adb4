"""Run a person's SQL on a catalog so that it can read that catalog and do nothing else.

DuckDB has no privileges inside a process, so several walls stand behind one another:

1. exactly one statement, and it is a SELECT (also DESCRIBE, SHOW, SUMMARIZE, which parse as one);
2. the file is opened read-only, which is what stops a changing CTE inside a SELECT;
3. no file, network, extension, secret or Python variable is in reach, and no setting can be
   changed back;
4. memory, temporary disk and time are bounded.

This guards against accidents and pasted queries. Give strangers a process of their own.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import Any

import duckdb
import polars as pl

from trimtab.errors import QueryError

TIMEOUT = 120.0
MEMORY = "4GB"

Parameters = Sequence[Any] | Mapping[str, Any]

_WALLS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "allow_community_extensions": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "max_temp_directory_size": "16GB",
    "lock_configuration": "true",
}


def query(
    source: Path | duckdb.DuckDBPyConnection,
    sql: str,
    params: Parameters | None = None,
    *,
    max_rows: int | None = None,
    timeout: float = TIMEOUT,
    memory: str = MEMORY,
) -> pl.DataFrame:
    """Run one SELECT and return its rows.

    Args:
        source: a catalog file, opened read-only; or a connection that `tables` made.
        sql: one SELECT statement; `?`, `$1` or `$name` stand for parameters.
        params: values of the parameters; never paste values into the text.
        max_rows: return at most so many rows.
        timeout: seconds after which the query is stopped.
        memory: what the query may hold, as DuckDB writes it, for instance "500MB".

    Raises:
        QueryError: the statement is refused, fails, or goes over a bound.
    """
    if isinstance(source, duckdb.DuckDBPyConnection):
        return _run(source, sql, params, max_rows, timeout)
    config = {**_WALLS, "access_mode": "READ_ONLY", "memory_limit": memory}
    try:
        connection = duckdb.connect(source, config=config)
    except duckdb.Error as error:
        raise QueryError(f"{source} cannot be opened: {error}") from None
    with closing(connection):
        return _run(connection, sql, params, max_rows, timeout)


def tables(files: Mapping[str, Path], *, memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    """Load Parquet files into memory, one table each, and lock the connection for `query`.

    What a query changes there is the copy in memory, and is gone when the connection closes.
    Raises `QueryError` where a file cannot be read.
    """
    connection = duckdb.connect(config={"memory_limit": memory})
    try:
        for name, path in files.items():
            quoted = '"' + name.replace('"', '""') + '"'
            connection.execute(f"CREATE TABLE {quoted} AS FROM read_parquet(?)", [str(path)])
        for setting, value in _WALLS.items():
            connection.execute(f"SET {setting} = '{value}'")
    except duckdb.Error as error:
        connection.close()
        raise QueryError(str(error)) from None
    return connection


def _run(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    params: Parameters | None,
    max_rows: int | None,
    timeout: float,
) -> pl.DataFrame:
    timer = Timer(timeout, connection.interrupt)
    timer.daemon = True
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise QueryError(f"one statement at a time, please; this is {len(statements)}")
        if statements[0].type != duckdb.StatementType.SELECT:
            raise QueryError(
                f"only SELECT is allowed, not {statements[0].type.name};"
                " SHOW TABLES and DESCRIBE <table> say what there is"
            )
        timer.start()
        relation = connection.sql(statements[0], params=params)
        if max_rows is not None:
            relation = relation.limit(max_rows)
        rows: pl.DataFrame = relation.pl()
        return rows
    except duckdb.InterruptException:
        raise QueryError(f"the query was stopped after {timeout:g} seconds") from None
    except duckdb.Error as error:
        raise QueryError(str(error)) from None
    finally:
        timer.cancel()
