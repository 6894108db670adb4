"""Run the study, or draw it again.

trimtab build runs/several a.jsonl b.jsonl c.jsonl
python -m experiments.learned_selection runs/several --out runs/learned
python -m experiments.learned_selection runs/several --out runs/learned --draw
"""

from pathlib import Path
from typing import Annotated

import typer

from experiments.learned_selection.study import study
from experiments.learned_selection.table import draw
from trimtab.errors import TrimtabError
from trimtab.store import open_store


def main(
    store: Annotated[Path, typer.Argument(help="A store of several behaviours.")],
    out: Annotated[Path, typer.Option(help="Folder of results; resumed where it exists.")],
    seed: Annotated[int, typer.Option(help="Of splits and random choices.")] = 0,
    draw_only: Annotated[
        bool, typer.Option("--draw", help="Make table and figure again, without a model.")
    ] = False,
) -> None:
    """Study learned selection over a store's behaviours."""
    try:
        if not draw_only:
            study(open_store(store), out, seed=seed)
        typer.echo(draw(out))
    except (TrimtabError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
