"""What commands print: a card, rows, JSON."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trimtab.errors import QueryError

SHOWN_FEATURES = 8  # of an exported vector


def print_card(card: Mapping[str, Any], folder: Path, as_json: bool) -> None:
    """Print what a card says of its vector, in `folder`: effects, features, replies."""
    if as_json:
        print_json(card)
        return
    from trimtab.selector.exported.folder import telling_what_lacks

    with telling_what_lacks(folder):
        _print_card(card, folder)


def _print_card(card: Mapping[str, Any], folder: Path) -> None:
    from trimtab.model.features.card import feature_table
    from trimtab.model.features.descriptions import visible
    from trimtab.selector.exported.described import labelled_features
    from trimtab.selector.report import found, how_many, reply_to_show
    from trimtab.selector.report.aim import aimed

    table = Table("vector", "held-out effect, nats per token", "behaviour rate")
    rows = {"minimal": card["held_out"], **card["controls"]}
    for name, row in rows.items():
        vector = Text(visible(name.replace("_", " ")))
        table.add_row(vector, _interval(row["effect"]), _interval(row["behavior_rate"]))
    Console().print(table)
    typer.echo(visible(f"{found(card)} {aimed(card)}"))
    if "learning_curve" in card:
        typer.echo(visible(how_many(card["learning_curve"])))
    labelled = labelled_features(folder).head(SHOWN_FEATURES)
    if labelled.height:
        Console().print(feature_table(labelled.to_dicts()))
    shown = reply_to_show(folder) if (folder / "replies.parquet").exists() else None
    if shown:
        typer.echo(f"\n{visible(shown['question'])}")
        typer.echo(f"  unsteered: {visible(shown['unsteered'])}")
        typer.echo(f"  steered:   {visible(shown['steered'])}")
    typer.echo(f"\nreport: {folder / 'report.html'}")


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "–"
    if estimate["low"] is None:
        return f"{estimate['value']:.2f}"
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def print_rows(rows: pl.DataFrame, as_json: bool, as_csv: bool) -> None:
    """Print rows as a table, JSON or CSV; texts are shown as they are, never as markup.

    Raises `QueryError` where CSV has no form for a column, as it has none for lists.
    """
    if as_json:
        typer.echo(json.dumps(rows.to_dicts(), ensure_ascii=False, default=str))
    elif as_csv:
        try:
            text = rows.write_csv()
        except pl.exceptions.PolarsError as error:
            raise QueryError(f"these rows do not fit into CSV ({error}); use --json") from None
        typer.echo(text, nl=False)
    else:
        from trimtab.model.features.descriptions import visible

        table = Table()
        for column in rows.columns:
            table.add_column(Text(visible(column)))
        for row in rows.iter_rows():
            table.add_row(*(Text(visible(str(rounded(value)))) for value in row))
        Console().print(table)


WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    ".csv": lambda rows, file: rows.write_csv(file),
    ".json": lambda rows, file: rows.write_json(file),
    ".jsonl": lambda rows, file: rows.write_ndjson(file),
    ".parquet": lambda rows, file: rows.write_parquet(file),
}


def check_writable(out: Path) -> None:
    """Refuse a file that exists, that lies in no folder, or whose suffix says no format."""
    if out.suffix not in WRITERS:
        known = ", ".join(WRITERS)
        raise typer.BadParameter(f"{out.name} must end with one of {known}", param_hint="--out")
    if out.exists():
        raise typer.BadParameter(f"{out} already exists; name another file", param_hint="--out")
    if not out.parent.is_dir():
        raise typer.BadParameter(
            f"{out.parent} is not a folder; create it first", param_hint="--out"
        )


def write_rows(tables: Mapping[Path, pl.DataFrame]) -> None:
    """Write rows in the formats that the files' suffixes name.

    Files appear when all of them are whole, so that who is interrupted may ask again.

    Raises `QueryError` where a format has no form for a column, as CSV has none for lists.
    """
    parts = {out: out.with_name(out.name + ".part") for out in tables}
    try:
        for out, rows in tables.items():
            _write(rows, out, parts[out])
        for out, part in parts.items():
            part.replace(out)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _write(rows: pl.DataFrame, out: Path, part: Path) -> None:
    try:
        WRITERS[out.suffix](rows, part)
    except pl.exceptions.PolarsError as error:
        raise QueryError(f"these rows do not fit into {out} ({error}); use .parquet") from None


def print_json(value: Any) -> None:
    """Print JSON for scripts; what JSON has no form for is printed as text."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def rounded(value: Any) -> Any:
    """Round floats, also those in a list, for a terminal."""
    if isinstance(value, list):
        return " · ".join(str(rounded(part)).strip() for part in value)
    return round(value, 4) if isinstance(value, float) else value
