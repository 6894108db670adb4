"""Check a store against itself: every byte as written, every number consistent with the others.

It needs no model; `recompute`, beside it, asks the model again. What is found here is mended by
running the same build again, which recomputes damaged tasks and builds the catalog anew.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from trimtab.errors import ModelError, StoreError
from trimtab.store.catalog.catalog import CATALOG, read_seals
from trimtab.store.checked import checksum
from trimtab.store.fingerprint import digest
from trimtab.store.plan import by_task, check_planned, plan_files, read_plan
from trimtab.store.reading.sandbox import query
from trimtab.store.reading.views import open_catalog
from trimtab.store.shards import content_hash, read_markers, shard_problems

TIMEOUT = 3600.0

# Each query counts rows that must not be there.
IMPOSSIBLE = {
    "samples do not have as many tokens as were counted":
    "SELECT count(*) FROM samples s LEFT JOIN"
    " (SELECT sequence // 3 AS sample, count(*) AS found FROM data.tokens GROUP BY 1)"
    " USING (sample) WHERE coalesce(found, 0) <> CASE status WHEN 'ok' THEN n_tokens ELSE 0 END",
    "activations are zero, not finite, or of a feature that does not exist":
    "SELECT count(*) FROM shards.activations"
    " WHERE value = 0 OR NOT isfinite(value) OR feature >="
    " (SELECT value::INTEGER FROM data.runs WHERE field = 'd_sae')",
    "activations are at a position that holds no token, or at position 0":
    "SELECT count(*) FROM shards.activations a ANTI JOIN"
    " (SELECT sequence, position FROM data.tokens WHERE position > 0) t"
    " ON a.sequence = t.sequence AND a.position = t.position",
    "pooled features do not match the stored activations":
    """WITH spans AS (
        SELECT sequence, count(*) AS n, max(position) AS final FROM data.tokens GROUP BY sequence),
    again AS (
        SELECT sequence, feature, sum(value::DOUBLE) / any_value(n) AS mean,
            coalesce(max(value) FILTER (position = final), 0) AS last,
            max(value) AS max, count(*) AS n_active
        FROM shards.activations JOIN spans USING (sequence) GROUP BY sequence, feature)
    SELECT count(*) FROM again a FULL JOIN data.pooled p
        ON a.sequence = p.sequence AND a.feature = p.feature
    WHERE a.n_active IS DISTINCT FROM p.n_active
        OR a.last <> p.last OR a.max <> p.max OR abs(a.mean - p.mean) > 1e-6 * (abs(a.mean) + 1)""",
    "pooled features do not peak at the recorded position":
    """SELECT count(*) FROM data.pooled p LEFT JOIN shards.activations a
        ON a.sequence = p.sequence AND a.feature = p.feature AND a.position = p.peak
    WHERE a.value IS DISTINCT FROM p.max""",
    "features have counts that do not match their activations":
    """SELECT count(*) FROM data.features f FULL JOIN
        (SELECT feature, sum(n_active) AS n_active, count(DISTINCT sequence // 3) AS n_samples,
            max(max) AS max FROM data.pooled GROUP BY feature) p USING (feature)
    WHERE f.n_active IS DISTINCT FROM p.n_active OR f.n_samples IS DISTINCT FROM p.n_samples
        OR f.max IS DISTINCT FROM p.max""",
    "residuals are not finite":
    "SELECT count(*) FROM data.residuals"
    " WHERE NOT (isfinite(list_sum(mean::FLOAT[])) AND isfinite(list_sum(last::FLOAT[])))",
}  # fmt: skip


def problems(path: Path, fields: Mapping[str, str]) -> Iterator[str]:
    """Say everything that is wrong with the store at `path`; nothing when it is sound."""
    markers = read_markers(path / "shards")
    try:
        plan = read_plan(path / "plan")
        check_planned(path / "plan", plan, markers)
    except StoreError as error:
        yield str(error)
        return
    tasks = by_task(plan)
    damaged = False
    for task, marker in markers.items():
        for problem in shard_problems(path / "shards", task, marker, digest(fields)):
            damaged = True
            yield problem
    pending = [task for task in tasks if task not in markers]
    if pending:
        count = sum(len(tasks[task]) for task in pending)
        yield f"{count} of {len(plan)} planned samples are not built yet"
    if damaged:
        return  # what follows would read it
    file = path / CATALOG
    if file.is_file() and read_seals(path) and checksum(file) not in read_seals(path):
        yield f"{file} was changed since it was built (checksum); opening the store rebuilds it"
        return
    try:
        catalog = open_catalog(path, fields)
    except StoreError:
        catalog = None
    except ModelError as error:
        yield str(error)
        return
    if catalog is None:
        yield f"{path / CATALOG} is missing or unreadable; opening the store rebuilds it"
        return
    with closing(catalog):
        content = query(catalog, "SELECT content FROM data.build").item()
        if content != content_hash(plan_files(path / "plan"), markers):
            yield f"{path / CATALOG} is older than the shards; opening the store rebuilds it"
            return
        for complaint, sql in IMPOSSIBLE.items():
            count = query(catalog, sql, timeout=TIMEOUT).item()
            if count:
                yield f"{count} {complaint}"
