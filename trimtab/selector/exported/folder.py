"""The folder of an exported vector: the names in it, its card, its checksums. Needs no torch."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from trimtab.errors import VectorError

CARD = "card.json"
STRONGEST_FILE = "strongest.safetensors"
TABLES = ("receipt", "samples", "features", "curves", "pareto", "replies", "judged")
OPTIONAL = ("features", "judged")  # without an SAE; written by an earlier version
EXPLANATION = "explanation"  # the kind of a card that explains a vector and has none beside it
WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError)
DECOMPOSITION = "decomposition"  # the table that only such a folder has


def folder_of(file: Path) -> Path:
    """Return the folder of an exported vector whose own file is named; any other path as it is."""
    from trimtab.steering.formats.stored import VECTOR_FILE  # brings numpy and the formats along

    return file.parent if file.name in (VECTOR_FILE, STRONGEST_FILE) else file


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of an exported vector.

    Raises:
        VectorError: the folder holds none, or one that cannot be read.
    """
    card = _read(folder)
    if card.get("kind") == EXPLANATION:
        raise VectorError(
            f"{folder} holds the explanation of a vector, not the vector; see its report.html, or "
            "use `trimtab info` and `trimtab sql`"
        )
    return card


def read_explanation(folder: Path) -> dict[str, Any] | None:
    """Return the card of a folder that `trimtab explain` wrote; None of an exported vector's.

    Raises:
        VectorError: the folder holds no card, or one that cannot be read.
    """
    card = _read(folder)
    return card if card.get("kind") == EXPLANATION else None


def _read(folder: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VectorError(
            f"{folder} is not an exported vector: it has no {CARD}. `trimtab select` writes one"
        ) from None
    except (OSError, ValueError) as error:
        raise VectorError(f"{folder / CARD} cannot be read: {error}") from error
    if not isinstance(card, dict):
        raise VectorError(f"{folder / CARD} is not a card: `trimtab select` writes one")
    return card


@contextmanager
def telling_what_lacks(folder: Path) -> Iterator[None]:
    """Turn what reading a card stumbles over into one clear error: the card may be anybody's.

    Raises:
        VectorError: the card lacks something, or holds another kind of value there.
    """
    try:
        yield
    except (*WRONG, pl.exceptions.PolarsError) as error:
        raise VectorError(
            f"{folder / CARD} lacks something needed ({error!r}): it was written by another "
            "version of trimtab, or changed"
        ) from error


def refuse_existing(out: Path) -> None:
    """Raise VectorError where there is something at `out` already: nothing is overwritten."""
    if out.exists():
        raise VectorError(f"{out} already exists; name another folder, or remove it first")


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` to write into, and move it there when all of it is written.

    Raises:
        VectorError: `out` exists already.
    """
    refuse_existing(out)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    part.replace(out)


def tables(folder: Path) -> dict[str, Path]:
    """Return the Parquet files that the folder has, by table name."""
    files = {name: folder / f"{name}.parquet" for name in (*TABLES, DECOMPOSITION)}
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
