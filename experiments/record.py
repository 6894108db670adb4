"""A study's folder of results: tables as Parquet, and a config that says what they rest on."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import polars as pl
import typer

from trimtab.selector.intervals import Estimate
from trimtab.store.files import write_atomically

PACKAGES = ("trimtab", "torch", "transformers", "sae-lens", "scikit-learn", "optuna", "duckdb")
EXTRAS = ("kmapper", "POT")  # which not every study needs

Row = dict[str, Any]


def write_results(
    out: Path, tables: Mapping[str, Sequence[Row]], config: Mapping[str, Any]
) -> None:
    """Write each table, and `config.json` with the code's commit, versions and the time.

    Args:
        out: the folder; tables that it has under these names are replaced.
        tables: by name, without an ending; estimates in rows are spread as `flat` does.
        config: settings and seed of the run, and what was found on the way.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts = {}
    for name, rows in tables.items():
        table = pl.DataFrame([flat(row) for row in rows], infer_schema_length=None)
        parts[out / f"{name}.parquet"] = part = out / f"{name}.part"
        table.write_parquet(part)
    for file, part in parts.items():  # all of them were written
        part.replace(file)
    whole = {
        **config,
        "commit": commit(),
        "versions": {name: version(name) for name in PACKAGES} | _of_extras(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomically(out / "config.json", (json.dumps(whole, indent=1) + "\n").encode())


def _of_extras() -> dict[str, str]:
    there = {one.name: one.version for one in distributions()}
    return {name: there[name] for name in EXTRAS if name in there}


def flat(row: Mapping[str, Any]) -> Row:
    """Spread estimates over three columns; over a fourth the reason where there is none."""
    spread: Row = {}
    for name, item in row.items():
        if isinstance(item, Estimate):
            spread |= {name: item.value, f"{name}_low": item.low, f"{name}_high": item.high}
            spread |= {f"{name}_reason": item.reason} if item.reason else {}
        else:
            spread[name] = item
    return spread


def commit() -> str:
    """Return the commit of the code, with `-dirty` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    here = Path(__file__).parent
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not a checkout"


def say(what: str) -> None:
    """Tell on stderr what a study is doing."""
    typer.echo(f"{datetime.now():%H:%M:%S}  {what}", err=True)
