"""Descriptions of features, wherever they lie: beside an SAE, in a store, in an exported vector."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import SCHEMA, descriptions_file, read_descriptions
from trimtab.selector.exported.folder import tables
from trimtab.steering.formats.stored import VECTOR_FILE
from trimtab.store import Store, open_store
from trimtab.store.store import HEADER

DESCRIBED = (
    *("label", "label_source", "firing_rate", "max", "mean_active"),
    *("tokens", "promotes", "suppresses", "contexts"),
)
"""Columns of descriptions that an exported vector carries along."""


def describe_features(features: Sequence[int], of: Path | None) -> list[dict[str, Any]]:
    """Return a row of descriptions for each feature; needs no model and no torch.

    Args:
        features: their numbers.
        of: an SAE's folder or its table, a store, or an exported vector; None for the packaged SAE.

    Raises:
        ModelError: there are no descriptions, or none of one of the features.
    """
    table = described_in(of)
    rows = {row["feature"]: row for row in table.iter_rows(named=True)}
    for feature in features:
        if feature not in rows:
            raise ModelError(
                f"{_name(of)} has no description of feature {feature}; it describes {table.height}"
            )
    return [rows[feature] for feature in features]


def descriptions_of(sae: str, store: Store | None) -> pl.DataFrame:
    """Return what is known of an SAE's features: what a store holds, or what lies beside the SAE.

    No rows where neither has anything.

    Args:
        sae: its name, as in `load_sae`.
        store: one that was built with it; None where there is none.
    """
    if store is not None and (held := store.descriptions()).height:
        return held
    file = descriptions_file(sae)
    return pl.DataFrame(schema=SCHEMA) if file is None else read_descriptions(file)


def labelled_features(vector: Path) -> pl.DataFrame:
    """Return the features of an exported vector that have a label, the largest first."""
    file = tables(vector).get("features")
    table = pl.DataFrame() if file is None else pl.read_parquet(file)
    if not set(DESCRIBED) <= set(table.columns):
        return pl.DataFrame(schema={"feature": pl.Int64})
    return table.drop_nulls("label")


def described_in(of: Path | None) -> pl.DataFrame:
    """Return the descriptions of a place, as `describe_features` finds them, a row a feature.

    Raises:
        ModelError: there are none.
    """
    table = _descriptions(of)
    if not table.height:
        raise ModelError(
            f"{_name(of)} has no descriptions of features; `trimtab describe` writes them"
        )
    return table


def _descriptions(of: Path | None) -> pl.DataFrame:
    if of is not None and (of / HEADER).is_file():
        return open_store(of).descriptions()
    if of is not None and (of / VECTOR_FILE).is_file():
        return labelled_features(of)
    file = (
        of
        if of is not None and of.is_file()
        else descriptions_file(None if of is None else str(of))
    )
    return pl.DataFrame(schema=SCHEMA) if file is None else read_descriptions(file)


def _name(of: Path | None) -> str:
    return "the packaged SAE" if of is None else str(of)
