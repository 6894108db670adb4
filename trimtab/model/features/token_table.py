"""Features token by token for the terminal; the stronger one is, the clearer it stands out."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from trimtab.model.features.descriptions import visible

STYLES = ((0.6, "bold green"), (0.3, "green"), (0.0, "dim"))
"""How a feature is shown from which share on of the text's largest activation."""


def token_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out rows of position, token and features (feature, value, label); texts may be hostile.

    Rows of a stored sample also name their side, which then has a column.
    """
    sides = any("side" in row for row in rows)
    table = Table(*(["side"] if sides else []), "", "token", "feature", "value", "label")
    largest = max((one["value"] for row in rows for one in row["features"]), default=1.0)
    for row in rows:
        styles = [_style(one["value"] / largest) for one in row["features"]]
        numbers, values, labels = (
            Text("\n").join(Text(text, style) for text, style in zip(texts, styles, strict=True))
            for texts in (
                [str(one["feature"]) for one in row["features"]],
                [f"{one['value']:.2f}" for one in row["features"]],
                [visible(one["label"] or "") for one in row["features"]],
            )
        )
        token = Text(visible(row["token"]), f"reverse {styles[0]}" if styles else "dim")
        side = [row["side"]] if sides else []
        table.add_row(*side, str(row["position"]), token, numbers, values, labels)
    return table


def _style(share: float) -> str:
    return next(style for least, style in STYLES if share >= least)
