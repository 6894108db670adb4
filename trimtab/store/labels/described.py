"""What labels are given to: the descriptions in a store, or in an SAE's folder."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import (
    FILE,
    SCHEMA,
    read_descriptions,
    write_descriptions,
)
from trimtab.store.files import write_atomically
from trimtab.store.store import HEADER, Store, open_store, set_descriptions

UNLABELLED = "none"
"""The source of the empty labels of a store's features that nobody has described."""


@dataclass(frozen=True)
class Described:
    """A store or an SAE's folder whose features have descriptions.

    Attributes:
        path: its folder.
        descriptions: a table of `descriptions.SCHEMA`, a row a feature.
        model: what the model is called, "" where that is unknown.
        hook_point: TransformerLens name of the place that the SAE reads, "" where unknown.
        neuronpedia: `MODEL/SOURCE`, where the SAE's configuration says what Neuronpedia calls it.
    """

    path: Path
    descriptions: pl.DataFrame
    model: str
    hook_point: str
    neuronpedia: str = ""

    def replace(self, table: pl.DataFrame) -> None:
        """Put `table` in the place of the descriptions, whole or not at all."""
        if (self.path / HEADER).is_file():
            set_descriptions(self.path, table)
            return
        content = io.BytesIO()
        write_descriptions(table, content)
        write_atomically(self.path / FILE, content.getvalue())


def find_described(path: Path) -> Described:
    """Open the store, or the SAE's folder, at `path`.

    Raises:
        ModelError: it is neither, or its SAE has no features or no descriptions.
        StoreError: the store is damaged.
    """
    if (path / HEADER).is_file():
        store = open_store(path)
        return Described(
            path, store_descriptions(store), store.fingerprint["model"], sae_hook_point(store)
        )
    if not (path / FILE).is_file():
        raise ModelError(
            f"{path} is neither a store nor an SAE's folder with descriptions of its features;"
            " `trimtab describe` writes them"
        )
    metadata = _metadata(path / "cfg.json")
    return Described(
        path,
        read_descriptions(path / FILE),
        metadata.get("model_name", ""),
        metadata.get("hook_name", ""),
        metadata.get("neuronpedia_id", ""),
    )


def store_descriptions(store: Store) -> pl.DataFrame:
    """Return the store's descriptions; where it has none, what its own activations tell.

    These have firing rates and activations and nothing in words: their labels are empty.
    """
    sae_hook_point(store)
    described = store.descriptions()
    if described.height:
        return described
    n_features = int(store.fingerprint["d_sae"])
    every = pl.DataFrame({"feature": range(n_features)}, schema={"feature": pl.UInt32})
    facts = store.sql("SELECT feature, firing_rate, max, mean_active FROM features")
    facts = facts.cast({name: SCHEMA[name] for name in facts.columns})
    table = every.join(facts, on="feature", how="left", maintain_order="left").fill_null(0)
    rest = {name: pl.lit([], dtype=SCHEMA[name]) for name in SCHEMA.names()[6:]}
    rest |= {"label": pl.lit(""), "label_source": pl.lit(UNLABELLED)}
    return table.with_columns(**rest).select(SCHEMA.names())


def sae_hook_point(store: Store) -> str:
    """Return where the store's SAE reads; raise `ModelError` where the store has no SAE."""
    if store.fingerprint["sae"] == "none":
        raise ModelError(f"{store.path} was built without an SAE, so it has no features to label")
    return store.fingerprint["sae_hook_point"]


def _metadata(file: Path) -> dict[str, str]:
    """What an SAE's configuration says of the place it was trained on, as far as it is text."""
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_bytes())
        metadata = config.get("metadata", config)
        return {name: value for name, value in metadata.items() if isinstance(value, str)}
    except (ValueError, AttributeError):
        raise ModelError(f"{file} cannot be read as an SAE's configuration") from None
