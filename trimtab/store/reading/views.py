"""What people query: views over a store's catalog and the activations in its shards.

Nothing of this is stored. The views are made when a store is opened, in a database in memory to
which the catalog is attached, so they can never be older than this code, and a store can be moved.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import duckdb

from trimtab.errors import ModelError, QueryError, StoreError
from trimtab.model.features.descriptions import read_descriptions
from trimtab.store.catalog.catalog import CATALOG, DESCRIPTIONS, LAYOUT
from trimtab.store.reading.sandbox import MEMORY, enclosed, literal, parquet
from trimtab.store.shards import unlike_their_names

_NO_ACTIVATIONS = """SELECT 0::UINTEGER AS sequence, 0::USMALLINT AS position,
    0::UINTEGER AS feature, 0::FLOAT AS value WHERE false"""
_ACTIVATIONS = {
    "float32": "SELECT sequence, position, feature, value FROM {files}",
    "bfloat16": """SELECT a.sequence, a.position, a.feature, b.value
        FROM {files} a JOIN data.bfloat16 b ON b.bits = a.value""",
}

_VIEWS = {
    "samples": """SELECT * RENAME (id AS sample_id),
        n_prompt_tokens::UINTEGER + n_positive_tokens + n_negative_tokens AS n_tokens
        FROM data.samples""",
    "tokens": """SELECT sample_id, behavior, side, position, token_id, text
        FROM data.tokens JOIN data.sequences USING (sequence)""",
    "activations": """SELECT sample_id, behavior, side, position, text AS token, feature, value,
            label
        FROM shards.activations JOIN data.sequences USING (sequence)
            JOIN data.tokens USING (sequence, position) LEFT JOIN shards.labels USING (feature)""",
    "pooled": """SELECT sample_id, behavior, side, feature, mean, last, max, n_active, peak, label
        FROM data.pooled JOIN data.sequences USING (sequence)
            LEFT JOIN shards.labels USING (feature)""",
    "residuals": """SELECT sample_id, behavior, side, mean, last
        FROM data.residuals JOIN data.sequences USING (sequence)""",
    "features": "FROM data.features LEFT JOIN shards.labels USING (feature)",
    "contrast": """SELECT contrast.*, label
        FROM data.contrast LEFT JOIN shards.labels USING (feature)""",
    "descriptions": "FROM shards.descriptions",
    "labels": "SELECT feature, label, label_source AS source FROM shards.descriptions",
    "runs": "FROM data.runs",
}


def open_catalog(
    path: Path, fields: Mapping[str, str], *, memory: str = MEMORY
) -> duckdb.DuckDBPyConnection:
    """Open the catalog of the store at `path` with all views, shut in for `query`; close it.

    The catalog's own tables are in `data`, what lies outside of it in `shards`. What is read stays
    as it is now, even when the catalog is replaced meanwhile.

    Raises:
        QueryError: there is no catalog, it cannot be read, or has not the tables of this version.
        StoreError: a shard is missing or damaged.
        ModelError: the store's descriptions of features cannot be read.
    """
    folder = path.absolute()
    catalog, descriptions = folder / CATALOG, folder / DESCRIPTIONS

    def prepare(connection: duckdb.DuckDBPyConnection) -> Iterable[Path]:
        connection.execute(f"ATTACH {literal(str(catalog))} AS data (READ_ONLY)")
        if connection.execute("SELECT layout FROM data.build").fetchone() != (LAYOUT,):
            raise QueryError(f"{path / CATALOG} was written by another version of trimtab")
        names = connection.execute("FROM data.activation_files").fetchall()
        files = [folder / "shards" / name for (name,) in names]
        damaged = unlike_their_names(path, [name for (name,) in names])
        if damaged:
            raise StoreError(
                f"{path / 'shards' / damaged[0]} is missing or was changed since it was written;"
                " restore a copy of it, or run the same build again, which recomputes it"
            )
        described = "data.descriptions"
        if descriptions.is_file():
            read_descriptions(path / DESCRIPTIONS, int(fields["d_sae"]))
            described = parquet([descriptions])
            try:  # DuckDB may stumble over bytes that polars reads
                connection.execute(f"SELECT bit_xor(hash(d)) FROM {described} d").fetchall()
            except duckdb.Error:
                raise ModelError(
                    f"{path / DESCRIPTIONS} cannot be read; restore a copy of it, or remove it"
                ) from None
        connection.execute("CREATE SCHEMA shards")
        sql = _ACTIVATIONS[fields["value_dtype"]] if files else _NO_ACTIVATIONS
        _view(connection, "shards.activations", sql.format(files=parquet(files)))
        _view(connection, "shards.descriptions", f"FROM {described}")
        _view(
            connection,
            "shards.labels",
            "SELECT feature, label, label_source FROM shards.descriptions",
        )
        for name, sql in _VIEWS.items():
            _view(connection, name, sql)
        return [*files, descriptions]

    if not catalog.is_file():
        raise QueryError(f"{path / CATALOG} is missing")
    return enclosed(prepare, memory=memory)


def catalog_content(path: Path) -> str | None:
    """Content hash that the catalog was built from; None where there is none that can be used."""
    catalog = path.absolute() / CATALOG
    if not catalog.is_file():
        return None
    try:
        with closing(duckdb.connect()) as connection:
            connection.execute(f"ATTACH {literal(str(catalog))} AS data (READ_ONLY)")
            content, layout = connection.execute("FROM data.build").fetchall()[0]
    except (duckdb.Error, ValueError):
        return None
    return content if layout == LAYOUT else None


def _view(connection: duckdb.DuckDBPyConnection, name: str, sql: str) -> None:
    connection.execute(f"CREATE VIEW {name} AS {sql}")
