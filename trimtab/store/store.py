"""A store of activations, opened to be read. Nothing here needs a model, or writes."""

import io
import json
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import polars as pl

from trimtab.errors import StoreError
from trimtab.model.features.descriptions import check_descriptions, write_descriptions
from trimtab.pairs.sample import Sample
from trimtab.store.catalog.catalog import CATALOG, DESCRIPTIONS, build_catalog, read_seals
from trimtab.store.checked import checksum, checksums
from trimtab.store.checks.verify import problems
from trimtab.store.files import building, write_atomically
from trimtab.store.fingerprint import FORMAT, digest
from trimtab.store.plan import check_planned, plan_files, read_plan
from trimtab.store.reading.matrices import Differences, Pooling, Source, blocks, matrix
from trimtab.store.reading.sandbox import Parameters, query
from trimtab.store.reading.views import catalog_content, open_catalog
from trimtab.store.shards import content_hash, read_markers, shard_problems

HEADER = "store.json"


@dataclass(frozen=True)
class Store:
    """Activations of a set of samples, as of the moment the store was opened.

    Attributes:
        path: its folder.
        fingerprint: everything that its numbers depend on, field by field.
        content_hash: sha-256, in hex, over the plan and all shards; two builds of the same samples
            with the same settings agree in it.
        catalog: what `sql` asks, see `trimtab.store.reading.views`; closed with the store.
    """

    path: Path
    fingerprint: dict[str, str]
    content_hash: str
    catalog: duckdb.DuckDBPyConnection = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        weakref.finalize(self, self.catalog.close)  # at exit, too

    def sql(
        self, sql: str, params: Parameters | None = None, *, max_rows: int | None = None
    ) -> pl.DataFrame:
        """Run one SELECT over the views; `SHOW TABLES` names them. Raises `QueryError`.

        It is stopped after two minutes, but not inside a single call of a function, and what such a
        call makes in memory is not bounded here: see `trimtab.store.reading.sandbox.query`.
        """
        return query(self.catalog, sql, params, max_rows=max_rows)

    def behaviors(self) -> list[str]:
        """Name the behaviours, in the order in which they were planned."""
        names = self.sql("SELECT behavior FROM samples GROUP BY behavior ORDER BY min(sample)")
        return names["behavior"].to_list()

    def status_counts(self) -> dict[str, int]:
        """Count the samples by status; "truncated" counts those of status "ok" that were cut.

        "pending" samples are planned and not run yet; "empty_completion", "prompt_too_long" and
        "not_finite" ones were dropped for that reason.
        """
        counts = self.sql("SELECT status, count(*) FROM samples GROUP BY status ORDER BY status")
        cut = self.sql("SELECT count(*) FROM samples WHERE n_truncated > 0").item()
        return {**dict(counts.iter_rows()), **({"truncated": cut} if cut else {})}

    def samples(self, behavior: str | None = None) -> list[Sample]:
        """Give back the samples in the order of their numbers, whatever their status."""
        rows = self.sql(
            "SELECT sample_id, behavior, messages, positive, negative, group_name, meta"
            " FROM samples WHERE $behavior IS NULL OR behavior = $behavior ORDER BY sample",
            {"behavior": behavior},
        )
        return [
            Sample(
                id=row["sample_id"],
                behavior=row["behavior"],
                messages=tuple(json.loads(row["messages"])),
                positive=row["positive"],
                negative=row["negative"],
                group=row["group_name"],
                meta=json.loads(row["meta"]),
            )
            for row in rows.iter_rows(named=True)
        ]

    def matrix(
        self,
        behavior: str,
        *,
        pooling: Pooling = "mean",
        device: str = "cpu",
        features: Sequence[int] | None = None,
    ) -> Differences:
        """Differences of every usable sample of a behaviour, on `device`; see `Differences`.

        They are kept in the process's cache, `trimtab.store.reading.cache`, so that a search reads
        the disk once. Callers share them: do not change the tensors in place.

        Raises:
            StoreError: the samples cannot be contrasted, a feature does not exist, or the rows are
                larger than the cache's budget even where only features that fire are kept.
        """
        return matrix(
            Source(self.catalog, self.content_hash, self.fingerprint),
            behavior,
            pooling,
            device,
            features,
        )

    def blocks(
        self, behavior: str, *, pooling: Pooling = "mean", device: str = "cpu"
    ) -> Iterator[Differences]:
        """Yield the differences a few features at a time, however many they are; none is kept.

        Whatever is linear in the features is the sum over the blocks.
        """
        return blocks(
            Source(self.catalog, self.content_hash, self.fingerprint), behavior, pooling, device
        )

    def contrast(self, behavior: str) -> pl.DataFrame:
        """Contrast the two sides feature by feature, the largest Cohen's d in size first.

        Cohen's d is over both sides' pooled standard deviation; `auc` is the chance that a random
        positive's mean activation is above a random negative's, ties counted half.
        """
        return self.sql(
            "SELECT * EXCLUDE (behavior) FROM contrast WHERE behavior = ?"
            " ORDER BY abs(cohens_d) DESC NULLS LAST, feature",
            [behavior],
        )

    def top_samples(self, feature: int, k: int = 20) -> pl.DataFrame:
        """Prompts and completions in which a feature gets strongest, with the token where."""
        return self.sql(
            """WITH top AS (
                SELECT p.*, sample_id, behavior, side, before_tokens + peak AS row
                FROM (FROM data.pooled WHERE feature = ? ORDER BY max DESC, sequence LIMIT ?) p
                    JOIN data.sequences USING (sequence))
            SELECT sample_id, behavior, side, max, mean, n_active, text AS token
            FROM top JOIN data.tokens t ON t.rowid = top.row ORDER BY max DESC, top.sequence""",
            [feature, k],
        )

    def top_tokens(self, features: Sequence[int], k: int = 10) -> pl.DataFrame:
        """Token texts on which each feature gets strongest, prompts included, strongest first."""
        return self.sql(
            """SELECT feature, text AS token, max(value) AS max, count(*) AS n_active
            FROM shards.activations JOIN data.tokens USING (sequence, position)
            WHERE feature IN (SELECT unnest($features)) GROUP BY feature, text
            QUALIFY row_number() OVER (PARTITION BY feature ORDER BY max DESC, text) <= $k
            ORDER BY list_position($features, feature), max DESC, token""",
            {"features": [int(feature) for feature in features], "k": k},
        )

    def descriptions(self, features: Sequence[int] | None = None) -> pl.DataFrame:
        """Descriptions of features, or of all; see `trimtab.model.features.descriptions.SCHEMA`.

        No rows where the store has none: its SAE brought none, and nobody added any.
        """
        return self.sql(
            "FROM descriptions WHERE $features IS NULL OR list_contains($features, feature)"
            " ORDER BY feature",
            {"features": None if features is None else [int(feature) for feature in features]},
        )

    def verify(self) -> list[str]:
        """Check files and numbers against each other; empty when the store is sound.

        Needs no model. Whatever is found, running the same build again mends it.
        """
        return list(problems(self.path, self.fingerprint))


def read_header(path: Path) -> dict[str, str] | None:
    """Read the fingerprint of the store at `path`; None where there is no store."""
    header = path / HEADER
    if not header.is_file():
        return None
    try:
        content = json.loads(header.read_bytes())
        fields: dict[str, str] = content["fingerprint"]
        sound = fields.get("store_format") != FORMAT or content["fingerprint_id"] == digest(fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise StoreError(f"{header} is damaged; restore a copy of it, or build the store again")
    return fields


def verify_store(path: Path) -> list[str]:
    """Check the store at `path` as `Store.verify` does, even one that is too damaged to be opened.

    Raises `StoreError` where there is no store, or none of this version.
    """
    return list(problems(path, _fields(path)))


def open_store(path: str | Path) -> Store:
    """Open the store at `path`; no model is needed.

    A catalog that is missing, or older than what it is made of, is built first, unless a builder is
    at work; then the last catalog is read as it is.

    Raises:
        StoreError: there is no store, it is damaged, or its first build has not got far enough.
    """
    path = Path(path)
    fields = _fields(path)
    content = _content(path, checksums(path, [CATALOG]).get(CATALOG))
    if content != current_content(path):
        with ExitStack() as held:
            try:
                held.enter_context(building(path))
            except StoreError as error:
                if content is None:
                    raise StoreError(
                        f"{path / CATALOG} is missing or damaged, and opening the store cannot"
                        f" build it now: {error}"
                    ) from None
            else:
                refresh_catalog(path, fields)
    catalog = open_catalog(path, fields)
    return Store(path, fields, query(catalog, "SELECT content FROM data.build").item(), catalog)


def _fields(path: Path) -> dict[str, str]:
    fields = read_header(path)
    if fields is None:
        raise StoreError(f"{path} is not a store: it has no {HEADER}. Build one there first")
    if fields.get("store_format") != FORMAT:
        raise StoreError(
            f"{path} is a store of format {fields.get('store_format')}, but this version of trimtab"
            f" reads format {FORMAT}; build it again, into another folder"
        )
    return fields


def set_descriptions(path: str | Path, table: pl.DataFrame) -> Store:
    """Give the store at `path` descriptions of its features, in place of any that it has.

    Nothing runs again, nothing is built anew, and no number changes.

    Raises:
        StoreError: there is no store, or another process builds it.
        ModelError: the table does not describe the features of the store's SAE.
    """
    path = Path(path)
    fields = open_store(path).fingerprint
    content = io.BytesIO()
    write_descriptions(check_descriptions(table, "the table", int(fields["d_sae"])), content)
    with building(path):
        write_atomically(path / DESCRIPTIONS, content.getvalue())
    return open_store(path)


def current_content(path: Path) -> str:
    """Content hash of the plan and of all committed shards of the store at `path`."""
    return content_hash(plan_files(path / "plan"), read_markers(path / "shards"))


def refresh_catalog(path: Path, fields: dict[str, str]) -> None:
    """Build the catalog anew where it is not that of plan and shards, byte for byte. Hold the lock.

    Raises `StoreError` where the plan or a shard is not as it was written: a catalog of them would
    outlive them, since it follows the checksums that they should have.
    """
    content = current_content(path)
    catalog = path / CATALOG
    if _content(path, checksum(catalog) if catalog.is_file() else None) != content:
        plan = read_plan(path / "plan")
        markers = read_markers(path / "shards")
        check_planned(path / "plan", plan, markers)
        for task, marker in markers.items():
            for problem in shard_problems(path / "shards", task, marker, digest(fields)):
                raise StoreError(
                    f"{problem}; restore a copy of it, or run the same build again, which"
                    " recomputes it"
                )
        build_catalog(path, fields, digest(fields), plan, markers, content)


def _content(path: Path, sha256: str | None) -> str | None:
    """Content hash of a catalog with that checksum; None where no such catalog was built."""
    return catalog_content(path) if sha256 in read_seals(path) else None
