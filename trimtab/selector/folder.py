"""The folder of an exported vector: the names in it, its card, its checksums. Needs no torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl

from trimtab.errors import VectorError

CARD = "card.json"
STRONGEST_FILE = "strongest.safetensors"
TABLES = ("receipt", "samples", "features", "curves", "pareto", "replies", "judged")
OPTIONAL = ("features", "judged")  # without an SAE; written by an earlier version


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of an exported vector.

    Raises:
        VectorError: the folder holds none, or one that cannot be read.
    """
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VectorError(
            f"{folder} is no exported vector: it has no {CARD}. `trimtab select` writes one"
        ) from None
    except (OSError, ValueError) as error:
        raise VectorError(f"{folder / CARD} cannot be read: {error}") from error
    if not isinstance(card, dict):
        raise VectorError(f"{folder / CARD} is no card: `trimtab select` writes one")
    return card


def tables(folder: Path) -> dict[str, Path]:
    """Return the Parquet files that the folder has, by table name."""
    files = {name: folder / f"{name}.parquet" for name in TABLES}
    return {name: file for name, file in files.items() if file.exists()}


def views(folder: Path) -> dict[str, str]:
    """Return the SQL of views over an exported vector's tables, by name.

    `contributions` is the receipt with each sample's texts and, where there are features and labels
    of them, each feature's label; the largest contributions first.
    """
    files = tables(folder)
    if not {"receipt", "samples"} <= files.keys():
        return {}
    labelled = "features" in files and "label" in pl.read_parquet_schema(files["features"])
    label = "f.label" if labelled else "NULL::VARCHAR AS label"
    features = "LEFT JOIN features f USING (feature)" if labelled else ""
    return {
        "contributions": f"""SELECT sample_id, feature, {label}, r.share, r.contribution,
            s.prompt, s.positive, s.negative, s."group", s.split
            FROM receipt r JOIN samples s USING (sample_id) {features}
            ORDER BY abs(r.contribution) DESC"""
    }


def sha256(file: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
