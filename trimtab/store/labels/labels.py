"""What a reader of labels hands back."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl


class Labels(NamedTuple):
    """Labels of features.

    Attributes:
        table: columns `feature`, `label` and `label_source`, at most one row a feature.
        n_left_out: rows of other SAEs or other kinds, which were asked to be passed over.
    """

    table: pl.DataFrame
    n_left_out: int


def label_table(rows: Mapping[int, tuple[str, str]]) -> pl.DataFrame:
    """Make the table from `(label, source)` by feature."""
    return pl.DataFrame(
        [(feature, *row) for feature, row in sorted(rows.items())],
        schema={"feature": pl.Int64, "label": pl.String, "label_source": pl.String},
        orient="row",
    )
