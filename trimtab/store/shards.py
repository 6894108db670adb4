"""Immutable Parquet shards, one set per task, each made valid by a marker written last.

A shard without a marker is what a crash left behind, and is swept away. A marker carries the size
and the checksum of every file; where they no longer fit, the task runs again.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from trimtab.store.files import TEMPORARY, write_atomically

ROW_ORDER = {
    "samples": ["sample"],
    "tokens": ["sequence", "position"],
    "residuals": ["sequence"],
    "activations": ["feature", "sequence", "position"],  # the sort is the index
    "pooled": ["feature", "sequence"],
}
"""The tables of a shard, and what each is sorted by."""

Marker = dict[str, Any]


def write_shard(
    folder: Path, task: str, tables: Mapping[str, pl.DataFrame], facts: Mapping[str, Any]
) -> None:
    """Write one task's tables, then the marker that makes them count.

    `facts` are kept in the marker and must name the `fingerprint`.
    """
    files = {}
    for name, table in tables.items():
        buffer = io.BytesIO()
        table.sort(ROW_ORDER[name]).write_parquet(
            buffer,
            compression="zstd",
            metadata={"trimtab_fingerprint": str(facts["fingerprint"]), "trimtab_task": task},
        )
        data = buffer.getvalue()
        file = f"{task}.{name}.parquet"
        write_atomically(folder / file, data)
        files[name] = {
            "file": file,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "rows": table.height,
        }
    marker = {"task": task, **facts, "files": files}
    write_atomically(folder / f"{task}.json", json.dumps(marker, indent=1).encode())


def read_markers(folder: Path) -> dict[str, Marker]:
    """Read the markers of all committed tasks; one that cannot be read is `{}`."""
    markers = {}
    for path in sorted(folder.glob("*.json")):
        try:
            markers[path.stem] = json.loads(path.read_bytes())
        except ValueError:
            markers[path.stem] = {}
    return markers


def shard_problems(folder: Path, task: str, marker: Marker, fingerprint: str) -> list[str]:
    """Say what is wrong with a committed task; empty when every byte is as it was written."""
    if marker.get("task") != task or "files" not in marker:
        return [f"{folder / task}.json cannot be read"]
    if marker.get("fingerprint") != fingerprint:
        return [f"{folder / task}.json belongs to the fingerprint {marker.get('fingerprint')}"]
    return [problem for record in marker["files"].values() for problem in _check(folder, record)]


def shard_files(folder: Path, markers: Iterable[Marker], table: str) -> list[str]:
    """Paths of one table's files over the given tasks."""
    records = [marker.get("files", {}).get(table) for marker in markers]
    return [str(folder / record["file"]) for record in records if record]


def discard(folder: Path, task: str) -> None:
    """Remove a task, marker first: a crash in between leaves nothing that looks valid."""
    (folder / f"{task}.json").unlink(missing_ok=True)
    for path in folder.glob(f"{task}.*.parquet"):
        path.unlink()


def sweep(folder: Path) -> None:
    """Remove what a crash left behind: half-written files, and shards without a marker."""
    committed = {path.stem for path in folder.glob("*.json")}
    for path in [*folder.glob(f"*{TEMPORARY}"), *folder.glob("*.parquet")]:
        if path.name.endswith(TEMPORARY) or path.name.partition(".")[0] not in committed:
            path.unlink()


def content_hash(plan: Iterable[Path], markers: Mapping[str, Marker]) -> str:
    """Sha-256, in hex, over the plan and every committed file: what the catalog is built from."""
    lines = [path.name for path in plan]
    for task in sorted(markers):
        for name, record in sorted(markers[task].get("files", {}).items()):
            lines.append(f"{task} {name} {record['sha256']}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _check(folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    path = folder / record["file"]
    if not path.is_file():
        yield f"{path} is missing"
    elif path.stat().st_size != record["bytes"]:
        yield f"{path} has {path.stat().st_size} bytes, {record['bytes']} were written"
    else:
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if checksum != record["sha256"]:
            yield f"{path} was changed since it was written (checksum)"
