"""The catalog: what a store's shards hold and what follows from it, in one DuckDB file.

It is built beside the old one and then moved into its place, so a reader never meets half of it or
a lock. It holds nothing that the plan and the shards do not: it can be removed and built again. The
activations themselves, by far the most, stay in the shards; the catalog knows which files these
are, and `trimtab.store.reading.views` reads both as one.

Tables are sorted so that the sort is the index. A sequence is `3 * sample + kind`, with kind 0 the
prompt, 1 the positive, 2 the negative completion.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from trimtab.errors import StoreError
from trimtab.model.features.descriptions import SCHEMA
from trimtab.store.catalog import statistics
from trimtab.store.catalog.pooling import FEATURES, POOLED, STRONGEST, summaries
from trimtab.store.checked import checksum
from trimtab.store.files import TEMPORARY, commit, write_atomically
from trimtab.store.plan import Planned
from trimtab.store.reading.sandbox import literal, parquet
from trimtab.store.shards import ROW_ORDER, Marker, shard_files

CATALOG = "catalog.duckdb"
SEALS = "catalog.json"
DESCRIPTIONS = "descriptions.parquet"
"""The store's own copy of its SAE's descriptions: part of neither fingerprint nor content hash."""

LAYOUT = 1
"""Counted up whenever the tables change: a catalog of another layout is built anew."""

MEMORY = "500MB"
"""What DuckDB may hold while it builds; it sorts the rest on the disk, inside the store."""

_TABLES = {
    "tokens": "sequence UINTEGER, position USMALLINT, token_id UINTEGER, text VARCHAR",
    "residuals": "sequence UINTEGER, mean FLOAT[{d_model}], last FLOAT[{d_model}]",
}
_COUNTS = "status, n_prompt_tokens, n_positive_tokens, n_negative_tokens, n_truncated"
_NO_COUNTS = (
    "(SELECT 0::UINTEGER AS sample, '' AS status, 0::USMALLINT AS n_prompt_tokens,"
    " 0::USMALLINT AS n_positive_tokens, 0::USMALLINT AS n_negative_tokens,"
    " 0::UINTEGER AS n_truncated WHERE false)"
)

# The token of a sequence at a position has the row id `before_tokens + position`.
_SEQUENCES = """
CREATE TABLE sequences AS
SELECT sequence, sample, id AS sample_id, behavior,
    ['prompt', 'positive', 'negative'][sequence % 3 + 1] AS side, n_tokens, before_tokens
FROM (SELECT sequence, sequence // 3 AS sample, count(*)::UINTEGER AS n_tokens,
        min(rowid - position) AS before_tokens
    FROM tokens GROUP BY sequence) JOIN samples USING (sample) ORDER BY sequence
"""


def build_catalog(
    path: Path,
    fields: Mapping[str, str],
    fingerprint: str,
    plan: Sequence[Planned],
    markers: Mapping[str, Marker],
    content: str,
) -> None:
    """Build the catalog of the store at `path` from its plan and its committed shards.

    `content` is the hash of both; the catalog keeps it, so that a stale one is known as such.
    Raises `StoreError` where a shard cannot be read.
    """
    temporary = path / (CATALOG + TEMPORARY)
    _remove(temporary)  # and the log of a builder that was killed, which would be replayed
    done = [markers[task] for task in sorted(markers)]
    shards = path / "shards"
    config = {"memory_limit": MEMORY, "temp_directory": f"{temporary}.sort"}
    try:
        with closing(duckdb.connect(temporary, config={**config})) as connection:
            _facts(connection, fields, fingerprint, content)
            _samples(connection, plan, shard_files(shards, done, "samples"))
            for table, columns in _TABLES.items():
                _load(connection, table, columns.format(**fields), shard_files(shards, done, table))
            connection.execute(_SEQUENCES)
            _activations(connection, shards, done)
            _insert(
                connection, "CREATE TABLE descriptions AS FROM frame", pl.DataFrame(schema=SCHEMA)
            )
            connection.execute(f"CREATE TABLE contrast AS {statistics.CONTRAST}")
        # Kept with the one before it: a reader may come between this and the move.
        seals = [*read_seals(path)[-1:], checksum(temporary)]
        write_atomically(path / SEALS, json.dumps(seals).encode())
        commit(temporary, path / CATALOG)
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        raise StoreError(
            f"the catalog of {path} cannot be built: {error}\n"
            "If a shard is damaged, running the same build again recomputes it."
        ) from error
    finally:
        _remove(temporary)


def read_seals(path: Path) -> list[str]:
    """Checksums, sha-256 in hex, of the last two catalogs that were built of the store at `path`.

    A catalog of another checksum was damaged or changed, and is none.
    """
    try:
        return [str(seal) for seal in json.loads((path / SEALS).read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def _remove(temporary: Path) -> None:
    for leftover in temporary.parent.glob(f"{temporary.name}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _insert(connection: duckdb.DuckDBPyConnection, sql: str, frame: pl.DataFrame) -> None:
    """Run SQL that reads `frame` under that name."""
    connection.register("frame", frame)
    connection.execute(sql)
    connection.unregister("frame")


def _facts(
    connection: duckdb.DuckDBPyConnection,
    fields: Mapping[str, str],
    fingerprint: str,
    content: str,
) -> None:
    run = {"field": list(fields), "value": list(fields.values())}
    _insert(
        connection,
        f"CREATE TABLE runs AS SELECT {literal(fingerprint)} AS fingerprint, field, value"
        " FROM frame",
        pl.DataFrame(run, schema={"field": pl.String, "value": pl.String}),
    )
    connection.execute(
        "CREATE TABLE build AS SELECT ?::VARCHAR AS content, ?::INTEGER AS layout",
        [content, LAYOUT],
    )


def _samples(
    connection: duckdb.DuckDBPyConnection, plan: Sequence[Planned], files: Sequence[str]
) -> None:
    rows = {
        "sample": [entry.index for entry in plan],
        "id": [entry.sample.id for entry in plan],
        "behavior": [entry.sample.behavior for entry in plan],
        "group_name": [entry.sample.group for entry in plan],
        "prompt": [entry.sample.prompt for entry in plan],
        "positive": [entry.sample.positive for entry in plan],
        "negative": [entry.sample.negative for entry in plan],
        "messages": [json.dumps(list(entry.sample.messages)) for entry in plan],
        "meta": [json.dumps(dict(entry.sample.meta)) for entry in plan],
    }
    schema = {name: pl.UInt32 if name == "sample" else pl.String for name in rows}
    _insert(
        connection,
        f"CREATE TABLE samples AS SELECT frame.*, {_COUNTS} FROM frame"
        f" LEFT JOIN {parquet(map(Path, files)) if files else _NO_COUNTS} USING (sample)"
        " ORDER BY sample",
        pl.DataFrame(rows, schema=schema),
    )
    connection.execute("UPDATE samples SET status = 'pending' WHERE status IS NULL")


def _load(
    connection: duckdb.DuckDBPyConnection, table: str, columns: str, files: Sequence[str]
) -> None:
    connection.execute(f"CREATE TABLE {table} ({columns})")
    if files:
        names = ", ".join(column.split()[0] for column in columns.split(", "))
        connection.execute(
            f"INSERT INTO {table} SELECT {names} FROM read_parquet(?)"
            f" ORDER BY {', '.join(ROW_ORDER[table])}",
            [files],
        )


def _activations(
    connection: duckdb.DuckDBPyConnection, shards: Path, markers: Iterable[Marker]
) -> None:
    """Pool the activations of every shard, and keep the names of the files that hold them."""
    connection.execute("CREATE TABLE activation_files (file VARCHAR)")
    for name, schema in (("pooled", POOLED), ("features", FEATURES), ("strongest", STRONGEST)):
        empty = pl.DataFrame(schema=schema)
        _insert(connection, f"CREATE TEMP TABLE staged_{name} AS FROM frame", empty)
    for marker in markers:
        files = marker.get("files", {})
        if "activations" not in files:
            continue
        activations, tokens = (files[table]["file"] for table in ("activations", "tokens"))
        connection.execute("INSERT INTO activation_files VALUES (?)", [activations])
        for summary in summaries(shards / activations, shards / tokens):
            for name, rows in summary._asdict().items():
                _insert(connection, f"INSERT INTO staged_{name} FROM frame", rows)
    connection.execute("CREATE TABLE pooled AS FROM staged_pooled ORDER BY feature, sequence")
    connection.execute("DROP TABLE staged_pooled")
    connection.execute(f"CREATE TABLE features AS {statistics.FEATURES}")
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    _insert(
        connection,
        "CREATE TABLE bfloat16 AS FROM frame",  # a join is the fastest way to decode in SQL
        pl.DataFrame({"bits": bits, "value": values}),
    )
