"""Printing which pairs of a pool are worth collecting: `trimtab select --suggest`."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trimtab.cli.printing import check_writable, print_json, write_rows

if TYPE_CHECKING:
    from trimtab.selector.learned.suggest import Suggestion
    from trimtab.selector.learned.validation import Judged

SHOWN = 12  # prospects

WAYS = {"learned": "the learned model", "cosine": "the cosine to the pairs’ mean difference alone"}


def suggest_from(
    store: Path,
    behavior: str,
    pool: Path,
    out: Path | None,
    *,
    budget: float,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Rank the prospects of a file, print the best, and write all where asked to.

    The measured usefulness that predictions were learnt from is written beside `out`.
    """
    training = None if out is None else out.with_name(f"{out.stem}.training.parquet")
    for file in (out, training):
        if file is not None:
            check_writable(file)
    from trimtab.pairs.readers.pool import read_pool
    from trimtab.store import open_store

    opened = open_store(store)
    prospects = read_pool(pool)
    from trimtab.selector.learned.suggest import suggest

    def write(found: "Suggestion") -> None:
        if out is not None and training is not None:
            write_rows({training: found.training, out: found.table})

    found = suggest(
        opened,
        behavior,
        prospects,
        out=out,
        write=write,
        budget=budget,
        seed=seed,
        device=device,
    )
    if as_json:
        print_json(found.to_json())
        return
    _print(found, behavior)
    if out is not None:
        typer.echo(f"\n{out}: {found.table.height} rows; learnt from {training}")


def _print(found: "Suggestion", behavior: str) -> None:
    from trimtab.model.features.descriptions import visible
    from trimtab.selector.report.numbers import estimate, number

    table = Table("rank", "usefulness", "prompt", "as", "why")
    for row in found.table.head(SHOWN).iter_rows(named=True):
        stored = " (stored)" if row["stored"] else ""
        table.add_row(
            str(row["rank"]),
            number(row["usefulness"], 2),
            Text(visible(row["prompt"] or row["positive"] or "")),
            row["kind"] + stored,
            Text(visible(row["why"])),
        )
    Console().print(table)
    typer.echo(
        f"Usefulness is the predicted share of the stored {behavior} pairs that are less useful "
        "than the new one."
    )
    for kind, judged in found.judged.items():
        typer.echo(said(kind, judged))
    top = found.top
    typer.echo(
        f"The vector of the {top.k} stored pairs with the highest predictions has a held-out "
        f"effect of {estimate(top.best)} at equal damage, that of as many random pairs "
        f"{estimate(top.random)}; the difference is {estimate(top.beyond)}."
    )


def said(kind: str, judged: "Judged") -> str:
    """Return how far predictions can be trusted, in one or two sentences."""
    from trimtab.selector.report.numbers import estimate

    both = f"learned {estimate(judged.learned)}"
    if judged.cosine is not None:
        both += f", cosine alone {estimate(judged.cosine)}"
    sentence = (
        f"On {judged.n} stored pairs, each predicted by models that saw none of its group, "
        f"the rank correlation with measured usefulness is: {both} ({kind}s; "
        f"{WAYS[judged.way]} is used)."
    )
    trusted = judged.trusted
    if trusted.low is None or trusted.low <= 0:
        sentence += f" So the order of these {kind}s may be chance: take any of them."
    return sentence
