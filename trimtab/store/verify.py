"""Check a store against itself: every byte as written, every number consistent with the others.

It needs no model. What it finds is mended by running the same build again, which recomputes
damaged tasks and builds the catalog anew.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from trimtab.errors import StoreError
from trimtab.store.catalog import CATALOG, catalog_content
from trimtab.store.fingerprint import digest
from trimtab.store.plan import by_task, plan_files, read_plan
from trimtab.store.sandbox import query
from trimtab.store.shards import content_hash, read_markers, shard_problems

TIMEOUT = 3600.0

# Each query counts rows that must not be there.
IMPOSSIBLE = {
    "samples have not the tokens that were counted":
    "SELECT count(*) FROM samples s LEFT JOIN"
    " (SELECT sequence // 3 AS sample, count(*) AS found FROM data.tokens GROUP BY 1)"
    " USING (sample) WHERE coalesce(found, 0) <> CASE status WHEN 'ok' THEN n_tokens ELSE 0 END",
    "activations are zero, not finite, or of a feature that does not exist":
    "SELECT count(*) FROM data.decoded"
    " WHERE value = 0 OR NOT isfinite(value) OR feature >="
    " (SELECT value::INTEGER FROM data.runs WHERE field = 'd_sae')",
    "activations are at a position that holds no token, or at position 0":
    "SELECT count(*) FROM data.activations a ANTI JOIN"
    " (SELECT sequence, position FROM data.tokens WHERE position > 0) t"
    " ON a.sequence = t.sequence AND a.position = t.position",
    "pooled features are not the pooling of the stored activations":
    """WITH spans AS (
        SELECT sequence, count(*) AS n, max(position) AS final FROM data.tokens
        WHERE sequence % 3 > 0 GROUP BY sequence),
    again AS (
        SELECT sequence, feature, sum(value::DOUBLE) / any_value(n) AS mean,
            coalesce(max(value) FILTER (position = final), 0) AS last,
            max(value) AS max, count(*) AS n_active
        FROM data.decoded JOIN spans USING (sequence) GROUP BY sequence, feature)
    SELECT count(*) FROM again a FULL JOIN data.pooled p
        ON a.sequence = p.sequence AND a.feature = p.feature
    WHERE a.n_active IS DISTINCT FROM p.n_active
        OR a.last <> p.last OR a.max <> p.max OR abs(a.mean - p.mean) > 1e-5 * (a.max + 1)""",
    "residuals are not finite":
    "SELECT count(*) FROM data.residuals"
    " WHERE NOT (isfinite(list_sum(mean::FLOAT[])) AND isfinite(list_sum(last::FLOAT[])))",
}  # fmt: skip


def problems(path: Path, fields: Mapping[str, str]) -> Iterator[str]:
    """Say everything that is wrong with the store at `path`; nothing when it is sound."""
    try:
        plan = read_plan(path / "plan")
    except StoreError as error:
        yield str(error)
        return
    markers = read_markers(path / "shards")
    tasks = by_task(plan)
    for task, marker in markers.items():
        yield from shard_problems(path / "shards", task, marker, digest(fields))
        if task not in tasks:
            yield f"{path / 'shards' / task}.json belongs to no planned task"
    pending = [task for task in tasks if task not in markers]
    if pending:
        count = sum(len(tasks[task]) for task in pending)
        yield f"{count} of {len(plan)} planned samples are not built yet"
    if catalog_content(path) != content_hash(plan_files(path / "plan"), markers):
        yield f"{path / CATALOG} is missing, unreadable or older than the shards"
        return
    for complaint, sql in IMPOSSIBLE.items():
        count = query(path / CATALOG, sql, timeout=TIMEOUT).item()
        if count:
            yield f"{count} {complaint}"
