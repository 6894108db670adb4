"""Is an exported vector what its card says? Needs no model and no torch."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimtab.errors import VectorError
from trimtab.selector.exported.folder import CARD, read_card, sha256, tables
from trimtab.steering.formats import safetensors
from trimtab.steering.formats.stored import VECTOR_FILE

ALWAYS = (VECTOR_FILE, "receipt.parquet", "samples.parquet")  # files that no vector is without
TOLERANCE = 1e-5  # relative error to which the receipt has to sum to the vector


def problems(folder: Path) -> list[str]:
    """Return what is wrong with an exported vector; nothing, where everything holds.

    Checks the checksum of every file that the card lists, that the card and the vector's file
    agree, and that the receipt sums to the vector to a relative error of 1e-5.

    Raises:
        VectorError: there is no card that can be read.
    """
    card = read_card(folder)
    checksums = card.get("checksums")
    if not isinstance(checksums, dict):
        return [f"{CARD} lists no checksums"]
    found = [f"{CARD} lists no checksum of {name}" for name in ALWAYS if name not in checksums]
    for name, checksum in checksums.items():
        if not (folder / name).exists():
            found.append(f"{name} is missing")
        elif sha256(folder / name) != checksum:
            found.append(f"{name} was changed: its checksum does not match")
    if found:
        return found
    try:
        vector = safetensors.read(folder / VECTOR_FILE)
    except VectorError as error:
        return [str(error)]
    stated = (card.get("hook_point"), card.get("multiplier"))
    if (str(vector.hook_point), vector.multiplier) != stated:
        found.append(f"{VECTOR_FILE} and {CARD} disagree on hook point or multiplier")
    missed = receipt_error(folder)
    if not missed <= TOLERANCE:
        found.append(f"the receipt does not sum to the vector: relative error {missed:.2g}")
    return found


def receipt_error(folder: Path) -> float:
    """Return the relative error with which the receipt's rows sum to the vector."""
    direction = safetensors.read(folder / VECTOR_FILE).direction.astype(np.float64)
    return float(np.linalg.norm(receipt_sum(folder) - direction) / np.linalg.norm(direction))


def receipt_sum(folder: Path) -> NDArray[np.float64]:
    """Return the sum `(d_model,)` of share times direction over the receipt's rows.

    A row's direction is its feature's, or where it has none its sample's.
    """
    files = tables(folder)
    part, key = ("features", "feature") if "features" in files else ("samples", "sample_id")
    shares = pl.read_parquet(files["receipt"]).group_by(key).agg(pl.col("share").sum())
    rows = shares.join(pl.read_parquet(files[part]).select(key, "direction"), on=key, how="left")
    directions = np.array(rows["direction"].to_list(), dtype=np.float64)
    total: NDArray[np.float64] = rows["share"].to_numpy() @ directions
    return total
