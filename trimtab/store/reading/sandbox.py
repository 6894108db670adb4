"""Run a person's SQL so that it can read what it is shown and do nothing else.

DuckDB has no privileges inside a process, so several walls stand behind one another:

1. exactly one statement, and it is a SELECT (also DESCRIBE, SHOW, SUMMARIZE, which parse as one);
   it runs as a subquery, where DuckDB allows no COPY, INSERT, UPDATE or DELETE in a WITH clause, as
   it does at the top of a SELECT. This is all that stops a COPY onto a file that may be read: a
   path that is allowed is allowed for writing, too, attached databases and their WAL included;
2. databases are attached read-only;
3. no file but those that are named, no network, extension, secret or Python variable is in reach,
   and no setting can be changed back;
4. DuckDB's memory, temporary disk and time are bounded. It counts no memory that a single call
   makes, and interrupts no single call, see `query`; `limits` bounds a process that does nothing
   else.

This guards against accidents and pasted queries. Give strangers a process of their own.
"""

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import uuid4

import duckdb
import polars as pl
from duckdb.sqltypes import DuckDBPyType

from trimtab.errors import QueryError

TIMEOUT = 120.0
MEMORY = "4GB"
TEMPORARY_DISK = "16GB"

_FOREIGN = ("interval", "union")  # types that polars does not have
_NESTED = ("list", "array", "struct", "map")
_LINE = re.compile(r"(?<=\nLINE )\d+(?=: )")

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

    Between two batches of rows DuckDB looks whether it is to stop, and never inside one call of a
    function: `list_sort(range(20000000))` runs to its end, whatever the timeout, and what
    `repeat('x', 1000000000)` makes counts for no bound of memory.

    Args:
        connection: as `enclosed` and `tables` return it; threads may share it.
        sql: one SELECT statement; `?`, `$1` or `$name` stand for parameters.
        params: values of the parameters; never paste values into the text.
        max_rows: return at most so many rows.
        timeout: seconds after which the query is stopped.

    Raises:
        QueryError: the statement is refused, fails, goes over a bound, or returns a type that
            polars does not have.
    """
    cursor = connection.cursor()
    timer = Timer(timeout, cursor.interrupt)
    timer.daemon = True
    try:
        limit = "" if max_rows is None else f"LIMIT {max_rows}"
        # The line break ends a comment. DuckDB keeps the order of a subquery's rows.
        nested = f"SELECT * FROM (\n{_select(cursor, sql)}\n) {limit}"
        timer.start()
        relation = cursor.sql(nested, params=params)
        _check_types(relation)
        rows: pl.DataFrame = relation.pl()
        return rows
    except duckdb.InterruptException:
        raise QueryError(f"the query was stopped after {timeout:g} seconds") from None
    except duckdb.Error as error:
        message = _LINE.sub(lambda line: str(int(line[0]) - 1), str(error))  # as it was written
        raise QueryError(message) from None
    finally:
        timer.cancel()
        cursor.close()


def _select(cursor: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Check that this is one SELECT, and return it without semicolons."""
    try:
        statements = cursor.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(str(error)) from None
    if len(statements) != 1:
        raise QueryError(f"only one statement at a time; these are {len(statements)}")
    kind = statements[0].type
    if kind == duckdb.StatementType.MULTI:
        raise QueryError(
            "PIVOT must name its columns here: PIVOT samples ON status IN ('ok', 'pending')"
        )
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(
            f"only SELECT is allowed, not {kind.name};"
            " SHOW TABLES and DESCRIBE <table> say what there is"
        )
    text = bytearray(statements[0].query, "utf-8")
    for start, _ in duckdb.tokenize(statements[0].query):  # bytes; texts are tokens, too
        if text[start : start + 1] == b";":
            text[start : start + 1] = b" "
    return text.decode()


def _check_types(relation: duckdb.DuckDBPyRelation) -> None:
    """Refuse types that polars would end the query at, or even panic about."""
    for name, kind in zip(relation.columns, relation.types, strict=True):
        if _holds_foreign(kind):
            raise QueryError(
                f"column {name!r} is of type {kind}, which cannot be returned;"
                " cast it to text: (...)::VARCHAR"
            )


def _holds_foreign(kind: DuckDBPyType) -> bool:
    if kind.id in _FOREIGN or kind.id not in _NESTED:
        return kind.id in _FOREIGN
    parts = [part for _, part in kind.children]
    return any(isinstance(part, DuckDBPyType) and _holds_foreign(part) for part in parts)


def literal(value: str | Sequence[str]) -> str:
    """Write a string, or a list of strings, as SQL does: some statements take no parameters."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"[{', '.join(literal(part) for part in value)}]"


def parquet(files: Iterable[Path]) -> str:
    """Return the SQL of a table function that reads Parquet files.

    Raises `QueryError` where a path would be read as a pattern: DuckDB lets a query that is shut in
    neither expand a pattern nor escape one.
    """
    files = list(files)
    for file in files:
        if wild := sorted(set("*?[") & set(str(file))):
            raise QueryError(
                f"{file} cannot be read: DuckDB takes {' and '.join(wild)} in a path for a pattern;"
                " move or rename the folder"
            )
    return f"read_parquet({literal([str(file) for file in files])})"


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
