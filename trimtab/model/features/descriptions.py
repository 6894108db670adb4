"""Descriptions of an SAE's features: one Parquet table that lies beside its weights.

A row a feature says what it fires on and what it does to the prediction, without a language model's
help. Shares are of the feature's whole activation mass, summed over the text that was read, without
first tokens, attention sinks and openings that texts have in common. `describe` computes the table;
reading it needs no torch. It changes no number of a store or a vector.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from trimtab.errors import ModelError
from trimtab.model.default import default_sae_folder

FILE = "features.parquet"
AUTOMATIC = "automatic"
"""The source of labels that follow from the table itself."""

_SHARES = pl.List(pl.Struct({"token": pl.String, "share": pl.Float32}))
_CONTEXT = pl.Struct(
    {
        "before": pl.String,
        "token": pl.String,
        "after": pl.String,
        "value": pl.Float32,
        "source": pl.String,
    }
)
SCHEMA = pl.Schema(
    {
        "feature": pl.UInt32(),
        "label": pl.String(),
        "label_source": pl.String(),  # AUTOMATIC, or where imported labels came from
        "firing_rate": pl.Float32(),  # share of tokens
        "max": pl.Float32(),
        "mean_active": pl.Float32(),
        "tokens": _SHARES,  # that it fires on
        "preceded_by": _SHARES,  # the token before; only those of a large share
        "followed_by": _SHARES,
        "parts": pl.List(pl.Struct({"part": pl.String, "share": pl.Float32})),  # see `parts.PARTS`
        "promotes": pl.List(pl.String()),  # tokens, through the unembedding
        "suppresses": pl.List(pl.String()),
        "contexts": pl.List(_CONTEXT),  # the strongest
    }
)

_SIGNS = {"\n": "⏎", "\r": "␍", "\t": "⇥", "\N{NO-BREAK SPACE}": "⍽"}


def descriptions_file(sae: str | None) -> Path | None:
    """Where the descriptions of an SAE lie, by its name as in `load_sae`; None if it has none."""
    folder = default_sae_folder() if sae in (None, "default") else Path(str(sae))
    return folder / FILE if (folder / FILE).is_file() else None


def write_descriptions(table: pl.DataFrame, file: Path | IO[bytes]) -> None:
    """Write a table of `SCHEMA`, small."""
    table.select(SCHEMA.names()).write_parquet(file, compression="zstd", compression_level=19)


def read_descriptions(file: Path, n_features: int | None = None) -> pl.DataFrame:
    """Read a table of `SCHEMA`, a row a feature in their order.

    Raises:
        ModelError: the file cannot be read, lacks a column, or is not of `n_features` features.
    """
    try:
        table = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ModelError(
            f"{file} cannot be read ({error}); restore a copy of it, or remove it"
        ) from error
    return check_descriptions(table, str(file), n_features)


def check_descriptions(table: pl.DataFrame, name: str, n_features: int | None) -> pl.DataFrame:
    """Return a table in the form of `SCHEMA`; raise `ModelError` with its name where it has not."""
    missing = [column for column in SCHEMA if column not in table.columns]
    if missing:
        raise ModelError(
            f"{name} lacks the column {missing[0]!r}: these are not feature descriptions, or they "
            "are of another version; `trimtab describe` writes them"
        )
    try:
        table = table.select(SCHEMA.names()).cast(SCHEMA).sort("feature")
    except pl.exceptions.PolarsError as error:
        raise ModelError(f"{name} has a column of the wrong type: {error}") from error
    if n_features not in (None, table.height):
        raise ModelError(
            f"{name} describes {table.height} features and the SAE has {n_features}: it belongs to "
            "another SAE; remove it, or write the right one with `trimtab describe`"
        )
    if not np.array_equal(table["feature"].to_numpy(), np.arange(table.height)):
        raise ModelError(f"{name} is damaged: it does not have one row for every feature")
    if table["label"].null_count() or table["label_source"].null_count():
        raise ModelError(f"{name} is damaged: a feature has no label")
    return table


def relabel(
    table: pl.DataFrame, labels: Mapping[int, str] | pl.DataFrame, source: str
) -> pl.DataFrame:
    """Replace labels by others; features that get none, or an empty one, keep theirs.

    Args:
        table: of `SCHEMA`.
        labels: by feature; a table has them in the columns `feature` and `label`.
        source: where they come from, kept as `label_source`; a table may say so row by row, in a
            column of that name.

    Raises:
        ModelError: a feature does not exist, or has two labels.
    """
    if not isinstance(labels, pl.DataFrame):
        labels = pl.DataFrame(
            {"feature": list(labels), "label": list(labels.values())},
            schema_overrides={"feature": pl.Int64, "label": pl.String},
        )
    own = pl.col("label_source") if "label_source" in labels.columns else pl.lit(source)
    new = labels.select(pl.col("feature").cast(pl.Int64), pl.col("label"), label_source=own).filter(
        pl.col("label").str.strip_chars() != ""
    )
    unknown = new.filter(~pl.col("feature").is_in(table["feature"].cast(pl.Int64).implode()))
    if unknown.height:
        raise ModelError(
            f"labels of {source}: there is no feature {unknown['feature'][0]}; "
            f"the SAE has {table.height} features"
        )
    twice = new.filter(pl.col("feature").is_duplicated())
    if twice.height:
        raise ModelError(f"labels of {source}: feature {twice['feature'][0]} has two labels")
    return table.update(new.cast({"feature": pl.UInt32}), on="feature")


def visible(text: str) -> str:
    """Show line breaks and tabs as signs, and as � what a terminal would obey or hide."""
    return "".join(
        _SIGNS.get(letter) or (letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}")
        for letter in text
    )
