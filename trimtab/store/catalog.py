"""The catalog: every shard of a store in one DuckDB file, under names that a person guesses.

It is built beside the old one and then moved into its place, so a reader never meets half of it or
a lock. It holds nothing that the plan, the shards and the descriptions of the features do not: it
can be removed and built again.

Tables lie in the schema `data`, sorted so that the sort is the index; people read the views. A
sequence is `3 * sample + kind`, with kind 0 the prompt, 1 the positive, 2 the negative completion.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from trimtab.errors import StoreError
from trimtab.model.features.descriptions import SCHEMA, read_descriptions
from trimtab.store.files import TEMPORARY, commit
from trimtab.store.plan import Planned
from trimtab.store.sandbox import query
from trimtab.store.shards import ROW_ORDER, Marker, shard_files

CATALOG = "catalog.duckdb"
DESCRIPTIONS = "descriptions.parquet"
"""The store's own copy of its SAE's descriptions: part of neither fingerprint nor content hash."""

COLUMNS = {
    "tokens": "sequence UINTEGER, position USMALLINT, token_id UINTEGER, text VARCHAR",
    "residuals": "sequence UINTEGER, mean FLOAT[{d_model}], last FLOAT[{d_model}]",
    "activations": "sequence UINTEGER, position USMALLINT, feature UINTEGER, value {value}",
    "pooled": "sequence UINTEGER, feature UINTEGER,"
    " mean FLOAT, last FLOAT, max FLOAT, n_active USMALLINT",
}

COUNTS = "status, n_prompt_tokens, n_positive_tokens, n_negative_tokens, n_truncated"
EMPTY_COUNTS = (
    "SELECT 0::UINTEGER AS sample, '' AS status, 0::USMALLINT AS n_prompt_tokens,"
    " 0::USMALLINT AS n_positive_tokens, 0::USMALLINT AS n_negative_tokens,"
    " 0::UINTEGER AS n_truncated WHERE false"
)

# Bits of a bfloat16 are the upper half of a float32; joining 65,536 decoded values is the fastest
# way to read them in SQL.
DECODED = {
    "float32": "CREATE VIEW data.decoded AS FROM data.activations",
    "bfloat16": """CREATE VIEW data.decoded AS
        SELECT a.sequence, a.position, a.feature, b.value
        FROM data.activations a JOIN data.bfloat16 b ON b.bits = a.value""",
}

FEATURES = """
CREATE TABLE data.features AS
WITH seen AS (
    SELECT feature, count(*) AS n_active, count(DISTINCT sequence // 3) AS n_samples,
        max(value) AS max, avg(value) AS mean_active
    FROM data.decoded GROUP BY feature),
strongest AS (
    SELECT feature, text, max(value) AS value
    FROM data.decoded JOIN data.tokens USING (sequence, position) GROUP BY feature, text),
texts AS (
    SELECT feature, list(text ORDER BY value DESC, text)[:5] AS top_tokens
    FROM strongest GROUP BY feature)
SELECT feature, n_active / (SELECT count(*) FROM data.tokens WHERE position > 0) AS firing_rate,
    n_active, n_samples, max, mean_active, top_tokens, label, label_source
FROM seen JOIN texts USING (feature) LEFT JOIN data.labels USING (feature) ORDER BY feature
"""

# Features are zero where they have no row, and never below: zeros are the lowest ranks, all tied.
CONTRAST = """
CREATE TABLE data.contrast AS
WITH sizes AS (
    SELECT behavior, count(positive) AS n_pos, count(negative) AS n_neg
    FROM data.samples WHERE status = 'ok' GROUP BY behavior),
means AS (
    SELECT s.behavior, p.feature, p.sequence % 3 = 1 AS positive, p.mean::DOUBLE AS mean
    FROM data.pooled p JOIN data.samples s ON s.sample = p.sequence // 3),
ranked AS (
    SELECT *, rank() OVER (PARTITION BY behavior, feature ORDER BY mean)
        + (count(*) OVER (PARTITION BY behavior, feature, mean) - 1) / 2 AS rank
    FROM means),
sums AS (
    SELECT behavior, feature,
        count(*) FILTER (positive) AS k_pos, count(*) FILTER (NOT positive) AS k_neg,
        coalesce(sum(mean) FILTER (positive), 0) AS sum_pos,
        coalesce(sum(mean) FILTER (NOT positive), 0) AS sum_neg,
        coalesce(sum(mean * mean) FILTER (positive), 0) AS square_pos,
        coalesce(sum(mean * mean) FILTER (NOT positive), 0) AS square_neg,
        coalesce(sum(rank) FILTER (positive), 0) AS ranks
    FROM ranked GROUP BY behavior, feature),
moments AS (
    SELECT *, sum_pos / n_pos AS mean_pos, sum_neg / n_neg AS mean_neg,
        greatest(square_pos - sum_pos * sum_pos / n_pos, 0) / nullif(n_pos - 1, 0) AS var_pos,
        greatest(square_neg - sum_neg * sum_neg / n_neg, 0) / nullif(n_neg - 1, 0) AS var_neg,
        ranks - k_pos * (k_pos + 1) / 2 + k_pos * (n_neg - k_neg)
            + (n_pos - k_pos) * (n_neg - k_neg) / 2 AS wins
    FROM sums JOIN sizes USING (behavior) WHERE n_pos > 0 AND n_neg > 0)
SELECT behavior, feature, mean_pos, mean_neg, mean_pos - mean_neg AS diff,
    (mean_pos - mean_neg) / nullif(sqrt((var_pos + var_neg) / 2), 0) AS cohens_d,
    wins / (n_pos * n_neg) AS auc, n_pos, n_neg, label
FROM moments LEFT JOIN data.labels USING (feature) ORDER BY behavior, feature
"""

VIEWS = """
CREATE VIEW data.sequences AS
SELECT sample, id AS sample_id, behavior, 3 * sample + kind AS sequence, side
FROM data.samples, (VALUES (0, 'prompt'), (1, 'positive'), (2, 'negative')) AS kinds (kind, side);
CREATE VIEW samples AS
SELECT * RENAME (id AS sample_id),
    n_prompt_tokens::UINTEGER + n_positive_tokens + n_negative_tokens AS n_tokens
FROM data.samples;
CREATE VIEW tokens AS
SELECT sample_id, behavior, side, position, token_id, text
FROM data.tokens JOIN data.sequences USING (sequence);
CREATE VIEW activations AS
SELECT sample_id, behavior, side, position, text AS token, feature, value, label
FROM data.decoded JOIN data.sequences USING (sequence)
    JOIN data.tokens USING (sequence, position) LEFT JOIN data.labels USING (feature);
CREATE VIEW pooled AS
SELECT sample_id, behavior, side, feature, mean, last, max, n_active, label
FROM data.pooled JOIN data.sequences USING (sequence) LEFT JOIN data.labels USING (feature);
CREATE VIEW residuals AS
SELECT sample_id, behavior, side, mean, last
FROM data.residuals JOIN data.sequences USING (sequence);
CREATE VIEW features AS FROM data.features;
CREATE VIEW contrast AS FROM data.contrast;
CREATE VIEW descriptions AS FROM data.descriptions;
CREATE VIEW runs AS FROM data.runs;
"""


def build_catalog(
    path: Path,
    fields: Mapping[str, str],
    fingerprint: str,
    plan: Sequence[Planned],
    markers: Mapping[str, Marker],
    content: str,
) -> None:
    """Build the catalog of the store at `path` from its plan, its committed shards, and the
    descriptions of its features if it has any.

    `content` is the hash of plan and shards; the catalog keeps it, and that of the descriptions, so
    that a stale one is known as such.
    """
    temporary = path / (CATALOG + TEMPORARY)
    _remove(temporary)  # and the log of a builder that was killed, which would be replayed
    done = [markers[task] for task in sorted(markers)]
    try:
        with closing(duckdb.connect(temporary)) as connection:
            connection.execute("CREATE SCHEMA data")
            _runs(connection, fields, fingerprint, content, descriptions_hash(path))
            _samples(connection, plan, shard_files(path / "shards", done, "samples"))
            for table in COLUMNS:
                files = shard_files(path / "shards", done, table)
                _load(connection, table, fields, files)
            _descriptions(connection, path, fields)
            connection.execute(DECODED[fields["value_dtype"]])
            connection.execute(FEATURES)
            connection.execute(CONTRAST)
            connection.execute(VIEWS)
        commit(temporary, path / CATALOG)
    except duckdb.Error as error:
        raise StoreError(
            f"the catalog of {path} cannot be built: {error}\n"
            "If a shard is damaged, running the same build again recomputes it."
        ) from error
    finally:
        _remove(temporary)


def catalog_content(path: Path) -> str | None:
    """Content hash that the catalog was built from; None where there is no readable catalog."""
    content: str | None = _build(path).get("content")
    return content


def catalog_is_current(path: Path, content: str) -> bool:
    """Whether the catalog was built from this content and from the descriptions as they are."""
    return _build(path) == {"content": content, "descriptions": descriptions_hash(path)}


def descriptions_hash(path: Path) -> str:
    """Sha-256, in hex, of the descriptions in the store at `path`; "" where it has none."""
    file = path / DESCRIPTIONS
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _build(path: Path) -> dict[str, Any]:
    if not (path / CATALOG).is_file():
        return {}
    try:
        return query(path / CATALOG, "FROM data.build").row(0, named=True)
    except StoreError:
        return {}


def _remove(temporary: Path) -> None:
    for leftover in temporary.parent.glob(f"{temporary.name}*"):
        leftover.unlink()


def _runs(
    connection: duckdb.DuckDBPyConnection,
    fields: Mapping[str, str],
    fingerprint: str,
    content: str,
    descriptions: str,
) -> None:
    run = {"field": list(fields), "value": list(fields.values())}
    connection.register("run", pl.DataFrame(run, schema={"field": pl.String, "value": pl.String}))
    connection.execute(
        "CREATE TABLE data.runs AS SELECT ?::VARCHAR AS fingerprint, field, value FROM run",
        [fingerprint],
    )
    connection.unregister("run")
    connection.execute(
        "CREATE TABLE data.build AS SELECT ?::VARCHAR AS content, ?::VARCHAR AS descriptions",
        [content, descriptions],
    )


def _descriptions(
    connection: duckdb.DuckDBPyConnection, path: Path, fields: Mapping[str, str]
) -> None:
    file = path / DESCRIPTIONS
    described = pl.DataFrame(schema=SCHEMA)
    if file.is_file():
        described = read_descriptions(file, int(fields["d_sae"]))
    connection.register("described", described)
    connection.execute("CREATE TABLE data.descriptions AS FROM described ORDER BY feature")
    connection.execute(
        "CREATE VIEW data.labels AS SELECT feature, label, label_source FROM data.descriptions"
    )
    connection.unregister("described")


def _samples(
    connection: duckdb.DuckDBPyConnection, plan: Sequence[Planned], files: list[str]
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
    frame = pl.DataFrame(rows, schema=schema)
    connection.register("planned", frame)
    shards = "SELECT * FROM read_parquet(?)" if files else EMPTY_COUNTS
    connection.execute(
        f"CREATE TABLE data.samples AS SELECT planned.*, {COUNTS}"
        f" FROM planned LEFT JOIN ({shards}) USING (sample) ORDER BY sample",
        [files] if files else [],
    )
    connection.execute("UPDATE data.samples SET status = 'pending' WHERE status IS NULL")
    connection.unregister("planned")


def _load(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    fields: Mapping[str, str],
    files: list[str],
) -> None:
    bfloat16 = fields["value_dtype"] == "bfloat16"
    columns = COLUMNS[table].format(
        d_model=fields["d_model"], value="USMALLINT" if bfloat16 else "FLOAT"
    )
    connection.execute(f"CREATE TABLE data.{table} ({columns})")
    if files:
        names = ", ".join(column.split()[0] for column in columns.split(", "))
        connection.execute(
            f"INSERT INTO data.{table} SELECT {names} FROM read_parquet(?)"
            f" ORDER BY {', '.join(ROW_ORDER[table])}",
            [files],
        )
    if table == "activations" and bfloat16:
        bits = np.arange(1 << 16, dtype=np.uint16)
        values = (bits.astype(np.uint32) << 16).view(np.float32)
        connection.register("decoding", pl.DataFrame({"bits": bits, "value": values}))
        connection.execute("CREATE TABLE data.bfloat16 AS FROM decoding")
        connection.unregister("decoding")
