"""A store in the shape of delphi's cache, so that delphi explains and scores what the store holds.

1. `latents/<module>/START_END.safetensors`, the features from START to END: `locations` `(n, 3)` of
   (row, position, feature - START), uint16 or uint32; `activations` `(n,)` in float16; `tokens`
   `(rows, 32)`, in every file again.
2. `latents/<module>/config.json`, as far as the store knows what stands there.
3. `explanations/<module>_latent<number>.txt`, the labels.

Delphi wants rows of one length. Every stored sequence, a prompt or a completion, is a text by
itself, so that each activation is there once; it is cut into rows of 32 tokens, the length of
delphi's examples, and its last row is filled with the token that prompts begin with, which never
has an activation. As in delphi's own cache, values up to 1e-5 are left out.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from trimtab.errors import StoreError
from trimtab.store.labels.delphi import module_name
from trimtab.store.labels.described import sae_hook_point
from trimtab.store.store import Store

ROW = 32  # tokens
SPLITS = 5  # files, as delphi makes them
LARGEST_SPLIT = 4_000_000  # activations on average; they are in memory at once
SMALLEST = 1e-5

_ROWS = f"""
WITH lengths AS (
    SELECT behavior, sample_id, side, min(position)::INTEGER AS start,
        count(*)::INTEGER AS n_tokens, (n_tokens + {ROW - 1}) // {ROW} AS n_rows
    FROM tokens GROUP BY ALL),
texts AS (
    SELECT * EXCLUDE (n_rows),
        (sum(n_rows) OVER (ORDER BY sample, side) - n_rows)::INTEGER AS first_row
    FROM lengths JOIN (SELECT behavior, sample_id, sample FROM samples)
        USING (behavior, sample_id))"""

_PLACE = f"first_row + (position - start) // {ROW} AS row, (position - start) % {ROW} AS place"

_TOKENS = f"""{_ROWS}
SELECT {_PLACE}, token_id FROM tokens JOIN texts USING (behavior, sample_id, side)"""

_ACTIVATIONS = f"""{_ROWS}
SELECT {_PLACE}, feature, value FROM activations JOIN texts USING (behavior, sample_id, side)
WHERE feature BETWEEN ? AND ? AND value > {SMALLEST} ORDER BY row, place, feature"""

_FIRST_TOKEN = """
SELECT token_id FROM tokens WHERE position = 0
GROUP BY token_id ORDER BY count(*) DESC, token_id LIMIT 1"""


def write(store: Store, folder: Path) -> None:
    """Write cache and explanations of a store into `folder`."""
    from safetensors.numpy import save_file

    module = module_name(sae_hook_point(store))
    latents = folder / "latents" / module
    latents.mkdir(parents=True)
    n_features = int(store.fingerprint["d_sae"])
    tokens = _tokens(store)
    splits = list(_splits(store, n_features))
    for start, end in splits:
        locations, activations = _split(store, start, end, len(tokens))
        tensors = {"locations": locations, "activations": activations, "tokens": tokens}
        save_file(tensors, latents / f"{start}_{end}.safetensors")
    config = {
        "ctx_len": ROW,
        "n_tokens": tokens.size,
        "n_splits": len(splits),
        "model_name": store.fingerprint["model"],
    }
    (latents / "config.json").write_text(json.dumps(config), encoding="utf-8")
    labels = store.descriptions().filter(pl.col("label").str.strip_chars() != "")
    (folder / "explanations").mkdir()
    for feature, label in labels.select("feature", "label").iter_rows():
        file = folder / "explanations" / f"{module}_latent{feature}.txt"
        file.write_bytes(json.dumps(label, ensure_ascii=False).encode())


def _tokens(store: Store) -> npt.NDArray[np.int64]:
    """Token ids `(rows, ROW)`, padded."""
    read = store.sql(_TOKENS)
    rows = read["row"].to_numpy()
    padding = store.sql(_FIRST_TOKEN).item() if len(rows) else 0
    tokens = np.full((int(rows.max(initial=-1)) + 1, ROW), padding, np.int64)
    tokens[rows, read["place"].to_numpy()] = read["token_id"].to_numpy()
    return tokens


def _splits(store: Store, n_features: int) -> Iterator[tuple[int, int]]:
    """First and last feature of each file: equal shares, as many as memory wants."""
    n = store.sql("SELECT sum(n_active) FROM features").item() or 0
    count = min(max(SPLITS, -(-int(n) // LARGEST_SPLIT)), n_features)
    for number in range(count):
        yield number * n_features // count, (number + 1) * n_features // count - 1


def _split(
    store: Store, start: int, end: int, n_rows: int
) -> tuple[npt.NDArray[np.unsignedinteger], npt.NDArray[np.float16]]:
    """Locations `(n, 3)` and values `(n,)` of the features from `start` to `end`."""
    read = store.sql(_ACTIVATIONS, [start, end])
    too_large = read.filter(pl.col("value") > float(np.finfo(np.float16).max))
    if too_large.height:
        row = too_large.row(0, named=True)
        raise StoreError(
            f"{store.path}: feature {row['feature']} reaches {row['value']:.4g}, and delphi's"
            " float16 ends at 65504; export for neuronpedia instead"
        )
    columns = [read[name].cast(pl.Int64).to_numpy() for name in ("row", "place", "feature")]
    locations = np.stack(columns, axis=1) - np.array([0, 0, start])
    narrow = n_rows <= 1 << 16 and end - start < 1 << 16
    return (
        np.ascontiguousarray(locations, np.uint16 if narrow else np.uint32),
        read["value"].to_numpy().astype(np.float16),
    )
