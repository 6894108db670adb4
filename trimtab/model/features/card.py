"""Features' descriptions for the terminal: a card for one, a table for the features of a vector.

All of it is other people's text: nothing is read as rich markup or reaches the terminal raw.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trimtab.model.features.descriptions import AUTOMATIC, visible


def feature_card(row: Mapping[str, Any]) -> RenderableType:
    """Lay out a row of `descriptions.SCHEMA`."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("fires", Text(_firing(row)))
    for name in ("tokens", "promotes", "suppresses"):
        facts.add_row(name.replace("tokens", "on"), _tokens(row[name]))
    contexts = Table.grid(padding=(0, 2))
    contexts.add_column(justify="right", style="dim")
    contexts.add_column(overflow="fold")
    for context in row["contexts"]:
        contexts.add_row(f"{context['value']:.2f}", _context(context))
    title = Text(f"{row['feature']}  ", style="bold").append(visible(row["label"]))
    subtitle = Text(f"label: {visible(row['label_source'])}", style="dim")
    parts = [facts, Text(), contexts] if row["contexts"] else [facts]
    return Panel(
        Group(*parts), title=title, title_align="left", subtitle=subtitle, subtitle_align="right"
    )


def feature_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out rows of an exported vector's `features.parquet`."""
    table = Table("feature", "length", "label", "promotes", "suppresses", "strongest context")
    for row in rows:
        source = "" if row["label_source"] == AUTOMATIC else f" ({row['label_source']})"
        table.add_row(
            str(row["feature"]),
            f"{row['contribution']:.2f}",
            Text(visible(row["label"] + source)),
            *(Text(visible(", ".join(row[name][:3]))) for name in ("promotes", "suppresses")),
            _context(row["contexts"][0]) if row["contexts"] else Text(),
        )
    return table


def _context(context: Mapping[str, Any]) -> Text:
    """The context on one line, its token highlighted."""
    text = Text(visible(context["before"]).lstrip())
    return text.append(visible(context["token"]), "reverse").append(visible(context["after"]))


def _firing(row: Mapping[str, Any]) -> str:
    if not row["firing_rate"]:
        return "never in the text that was read"
    often = f"on {row['firing_rate']:.2%} of tokens"
    return f"{often}, {row['mean_active']:.2f} on average, {row['max']:.2f} at most"


def _tokens(tokens: list[Any]) -> Text:
    """Tokens, on a ground that shows their spaces, with their shares where they are known."""
    text = Text()
    for token in tokens:
        name, share = (token, None) if isinstance(token, str) else (token["token"], token["share"])
        text.append(visible(name), "reverse")
        text.append(f" {share:.0%}  " if share is not None else "  ")
    return text
