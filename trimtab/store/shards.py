"""Immutable Parquet shards, one set per task, each made valid by a marker written last.

A file's name carries its own checksum, so two workers that race on one task never write into each
other's shard: whose marker comes last has its whole set. A file that no marker names is what a
crash or a lost race left behind, and is swept away. A marker carries the size and the checksum of
every file; where they no longer fit, the task runs again.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from trimtab.store.checked import checksum, checksums
from trimtab.store.files import READ_ONLY, remove_temporaries, write_atomically

ROW_ORDER = {
    "samples": ["sample"],
    "tokens": ["sequence", "position"],
    "residuals": ["sequence"],
    "activations": ["feature", "sequence", "position"],  # the sort is the index
}
"""The tables of a shard, and what each is sorted by."""

ROW_GROUP = 1 << 15
"""Rows that are read at least: a feature's are found by the groups' statistics. Ten times as many
take as many bytes, and twice as long to find."""

Marker = dict[str, Any]


def write_shard(
    folder: Path, task: str, tables: Mapping[str, pl.DataFrame], facts: Mapping[str, Any]
) -> Marker:
    """Write one task's tables, then the marker that makes them count; return the marker.

    `facts` are kept in the marker and must name the `fingerprint`.
    """
    files = {}
    for name, table in tables.items():
        buffer = io.BytesIO()
        table.sort(ROW_ORDER[name]).write_parquet(
            buffer,
            compression="zstd",
            row_group_size=ROW_GROUP,
            metadata={"trimtab_fingerprint": str(facts["fingerprint"]), "trimtab_task": task},
        )
        data = buffer.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        file = f"{task}.{sha256[:8]}.{name}.parquet"
        write_atomically(folder / file, data, mode=READ_ONLY)
        files[name] = {
            "file": file,
            "bytes": len(data),
            "sha256": sha256,
            "rows": table.height,
        }
    marker = {"task": task, **facts, "files": files}
    write_atomically(folder / f"{task}.json", json.dumps(marker, indent=1).encode())
    return marker


def read_markers(folder: Path) -> dict[str, Marker]:
    """Read the markers of all committed tasks; one that cannot be read is `{}`."""
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def shard_problems(folder: Path, task: str, marker: Marker, fingerprint: str) -> list[str]:
    """Say what is wrong with a committed task; empty when every byte is as it was written."""
    if marker.get("task") != task or "files" not in marker:
        return [f"{folder / task}.json cannot be read"]
    if marker.get("fingerprint") != fingerprint:
        return [f"{folder / task}.json belongs to the fingerprint {marker.get('fingerprint')}"]
    return [problem for record in marker["files"].values() for problem in _check(folder, record)]


def unlike_their_names(store: Path, files: Iterable[str]) -> list[str]:
    """Names of those files, below `shards`, that are missing or not what their names say.

    What no process has read since it was last changed is read; `shard_problems` reads every byte.
    """
    names = {f"shards/{file}": file for file in files}
    found = checksums(store, names)
    return [
        file
        for name, file in names.items()
        if name not in found or file.split(".")[1] != found[name][:8]
    ]


def shard_files(folder: Path, markers: Iterable[Marker], table: str) -> list[str]:
    """Paths of one table's files over the given tasks."""
    records = [marker.get("files", {}).get(table) for marker in markers]
    return [str(folder / record["file"]) for record in records if record]


def shard_bytes(marker: Marker) -> int:
    """Size of a task's files."""
    return sum(record["bytes"] for record in marker.get("files", {}).values())


def discard(folder: Path, task: str) -> None:
    """Make a task count as not run; its files go with the next sweep."""
    (folder / f"{task}.json").unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what no marker names. Nobody may be writing shards meanwhile."""
    named = {
        record["file"]
        for marker in read_markers(folder).values()
        for record in marker.get("files", {}).values()
    }
    remove_temporaries(folder)
    for path in folder.glob("*.parquet"):
        if path.name not in named:
            path.unlink()


def content_hash(plan: Iterable[Path], markers: Mapping[str, Marker]) -> str:
    """Sha-256, in hex, over the plan and every committed file: what the catalog is built from."""
    lines = [path.name for path in plan]
    for task in sorted(markers):
        for name, record in sorted(markers[task].get("files", {}).items()):
            lines.append(f"{task} {name} {record['sha256']}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _read(path: Path) -> Marker:
    try:
        marker = json.loads(path.read_bytes())
    except (ValueError, FileNotFoundError):  # another process may just have discarded it
        return {}
    return marker if isinstance(marker, dict) else {}


def _check(folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    path = folder / record["file"]
    if not path.is_file():
        yield f"{path} is missing"
    elif path.stat().st_size != record["bytes"]:
        yield f"{path} has {path.stat().st_size} bytes, {record['bytes']} were written"
    elif checksum(path) != record["sha256"]:
        yield f"{path} was changed since it was written (checksum)"
