"""A store of activations, opened to be read. Nothing here needs a model, or writes."""

import io
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from trimtab.errors import StoreError
from trimtab.model.features.descriptions import check_descriptions, write_descriptions
from trimtab.pairs.sample import Sample
from trimtab.store.catalog import (
    CATALOG,
    DESCRIPTIONS,
    build_catalog,
    catalog_content,
    catalog_is_current,
)
from trimtab.store.files import building, write_atomically
from trimtab.store.fingerprint import digest
from trimtab.store.matrices import Differences, Pooling, differences
from trimtab.store.plan import plan_files, read_plan
from trimtab.store.sandbox import Parameters, query
from trimtab.store.shards import content_hash, read_markers
from trimtab.store.verify import problems

HEADER = "store.json"

CACHED_MATRICES = 4


@dataclass(frozen=True)
class Store:
    """Activations of a set of samples, as of the moment the store was opened.

    Attributes:
        path: its folder.
        fingerprint: everything that its numbers depend on, field by field.
        content_hash: sha-256, in hex, over the plan and all shards; two builds of the same samples
            with the same settings agree in it.
    """

    path: Path
    fingerprint: dict[str, str]
    content_hash: str
    _matrices: "OrderedDict[tuple[str, ...], Differences]" = field(
        default_factory=OrderedDict, repr=False, compare=False
    )

    def sql(
        self, sql: str, params: Parameters | None = None, *, max_rows: int | None = None
    ) -> pl.DataFrame:
        """Run one SELECT over the views; `SHOW TABLES` names them. Raises `QueryError`."""
        return query(self.path / CATALOG, sql, params, max_rows=max_rows)

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

        The last few are kept on their device, so that a search reads the disk once. Callers share
        them: do not change the tensors in place.
        """
        key = (self.content_hash, behavior, pooling, str(device))
        if key not in self._matrices:
            self._matrices[key] = differences(
                self.path,
                behavior,
                pooling=pooling,
                d_model=int(self.fingerprint["d_model"]),
                d_sae=int(self.fingerprint["d_sae"]),
                device=str(device),
            )
            while len(self._matrices) > CACHED_MATRICES:
                self._matrices.popitem(last=False)
        self._matrices.move_to_end(key)
        matrix = self._matrices[key]
        return matrix if features is None else matrix.select(features)

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
        """Completions in which a feature gets strongest, with the token where it does."""
        return self.sql(
            """SELECT s.sample_id, s.behavior, s.side, p.max, p.mean, p.n_active,
                (SELECT t.text FROM data.decoded a JOIN data.tokens t USING (sequence, position)
                 WHERE a.feature = p.feature AND a.sequence = p.sequence
                 ORDER BY a.value DESC, a.position LIMIT 1) AS token
            FROM (FROM data.pooled WHERE feature = ? ORDER BY max DESC, sequence LIMIT ?) p
                JOIN data.sequences s USING (sequence)
            ORDER BY p.max DESC, p.sequence""",
            [feature, k],
        )

    def top_tokens(self, features: Sequence[int], k: int = 10) -> pl.DataFrame:
        """Token texts on which each feature gets strongest, prompts included, strongest first."""
        return self.sql(
            """SELECT feature, text AS token, max(value) AS max, count(*) AS n_active
            FROM data.decoded JOIN data.tokens USING (sequence, position)
            WHERE list_contains($features, feature) GROUP BY feature, text
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
        fields: dict[str, str] = json.loads(header.read_bytes())["fingerprint"]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{header} is damaged; put back a copy, or build anew") from None
    return fields


def open_store(path: str | Path) -> Store:
    """Open the store at `path`; no model is needed.

    A catalog that is missing, or older than what it is made of, is built first, unless a builder is
    at work; then the last catalog is read as it is.

    Raises:
        StoreError: there is no store, it is damaged, or its first build has not got far enough.
    """
    path = Path(path)
    fields = read_header(path)
    if fields is None:
        raise StoreError(f"{path} is no store: it has no {HEADER}. Build one there first")
    if not catalog_is_current(path, current_content(path)):
        try:
            with building(path):
                refresh_catalog(path, fields)
        except StoreError:
            if catalog_content(path) is None:
                raise
    return Store(path, fields, catalog_content(path) or "")


def set_descriptions(path: str | Path, table: pl.DataFrame) -> Store:
    """Give the store at `path` descriptions of its features, in place of any that it has.

    Nothing runs again and no number changes: the catalog is built anew, that is all.

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
        refresh_catalog(path, fields)
    return open_store(path)


def current_content(path: Path) -> str:
    """Content hash of the plan and of all committed shards of the store at `path`."""
    return content_hash(plan_files(path / "plan"), read_markers(path / "shards"))


def refresh_catalog(path: Path, fields: dict[str, str]) -> None:
    """Build the catalog anew where it is not that of shards and descriptions. Hold the lock."""
    content = current_content(path)
    if not catalog_is_current(path, content):
        plan = read_plan(path / "plan")
        markers = read_markers(path / "shards")
        build_catalog(path, fields, digest(fields), plan, markers, content)
