"""What a store holds, and how many bytes on the disk that takes."""

from collections import Counter
from pathlib import Path
from typing import Any

from trimtab.store.fingerprint import digest
from trimtab.store.shards import read_markers
from trimtab.store.store import Store


def inventory(store: Store) -> dict[str, Any]:
    """Count what the store at this path holds now; plain values for JSON.

    Keys: `n_samples` (planned ones), `n_tokens`, `nnz` (feature activations that are not zero),
    `shards`, `bytes` (all files), `bytes_by_part`, `bytes_per_nnz` (activations and tokens, what
    other caches hold, too; None without activations), `fingerprint_id`.
    """
    rows: Counter[str] = Counter()
    markers = read_markers(store.path / "shards")
    for marker in markers.values():
        for name, record in marker.get("files", {}).items():
            rows[name] += record["rows"]
    parts: Counter[str] = Counter()
    for file in store.path.rglob("*"):
        if file.is_file():
            parts[_part(file.relative_to(store.path))] += file.stat().st_size
    nnz = rows["activations"]
    return {
        "n_samples": store.sql("SELECT count(*) FROM samples").item(),
        "n_tokens": rows["tokens"],
        "nnz": nnz,
        "shards": len(markers),
        "bytes": parts.total(),
        "bytes_by_part": dict(parts.most_common()),
        "bytes_per_nnz": (parts["activations"] + parts["tokens"]) / nnz if nnz else None,
        "fingerprint_id": digest(store.fingerprint),
    }


def _part(file: Path) -> str:
    """Name the part of a store that a file, relative to it, belongs to."""
    if file.parts[0] == "shards":
        return "markers" if file.suffix == ".json" else file.name.split(".")[-2]
    if file.parts[0] == "plan":
        return "plan"
    return file.stem if file.suffix in (".duckdb", ".parquet") else "other"
