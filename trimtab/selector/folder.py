"""The folder of an exported vector: the names in it, its card, its checksums. Needs no torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from trimtab.errors import VectorError

CARD = "card.json"
TABLES = ("receipt", "samples", "features", "curves", "candidates", "replies")


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


def sha256(file: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
