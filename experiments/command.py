"""A study as a command.

    python -m experiments.NAME --out runs/experiments
    python -m experiments.NAME --out runs/experiments --config FILE.toml --data DATA
    python -m experiments.NAME --out runs/experiments --draw

The folder's store serves every study; results lie in `runs/experiments/NAME`. A study that was
interrupted resumes; `--draw` makes its tables and figures again, without a model.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from experiments.config import SMALL, read_config, sizes_of
from experiments.laboratory import Laboratory, file_of_data
from experiments.record import say
from experiments.token_count import counted, tokens_counted
from trimtab.cli.group import in_a_line
from trimtab.errors import SelectionError
from trimtab.model.language_model import load_model
from trimtab.model.sae import load_sae

Measure = Callable[[Laboratory], dict[str, Any]]
Draw = Callable[[Path], str]


def command(
    name: str, measure: Measure, draw: Draw, sizes: Any, *, reads: Sequence[str] = ()
) -> None:
    """Run a study by the options of the command line.

    Args:
        name: of the study, and of its folder.
        measure: takes the laboratory and returns the study's tables by name.
        draw: takes the study's folder, draws its figures into it, and returns its page.
        sizes: what is measured where the config says nothing else.
        reads: files in the folder of data sets that it cannot do without.
    """

    def main(
        out: Annotated[Path, typer.Option(help="Folder of all studies.", show_default=False)],
        config: Annotated[
            Path, typer.Option(help="TOML file: model, SAE, behaviours and sizes.")
        ] = SMALL,
        data: Annotated[Path | None, typer.Option(help="Folder of public data sets.")] = None,
        only_draw: Annotated[bool, typer.Option("--draw", help="Draw, measure nothing.")] = False,
    ) -> None:
        with in_a_line():
            if not only_draw:
                for file in reads:
                    file_of_data(data, file)
                _measured(name, measure, sizes, out, config, data)
            try:
                typer.echo(draw(out / name))
            except pl.exceptions.PolarsError as error:
                raise SelectionError(
                    f"{out / name} has other tables than this study draws ({error}); measure anew"
                ) from None

    needs = f" It needs --data, a folder with {' and '.join(reads)}." if reads else ""
    main.__doc__ = (
        f"Measure {name} into OUT/{name}, or go on with it, and print its tables.{needs}\n\n"
        "What it asks stands in docs/studies, what a config may say in experiments/config.py."
    )
    typer.run(main)


def _measured(
    name: str, measure: Measure, sizes: Any, out: Path, file: Path, data: Path | None
) -> None:
    config = read_config(file)
    own = sizes_of(config, name, sizes)
    tokens_counted(out / name)  # the folder can be written
    say(f"loading {config.model} and its SAE")
    model = load_model(config.model, dtype=config.dtype, device=config.device)
    sae = load_sae(config.sae, model)
    if sae is None:
        raise SelectionError(f"{file}: the studies of behaviours need an SAE")
    laboratory = Laboratory(config, data, model, sae, out, out / name, own)
    begun = time.monotonic()
    with counted(model, laboratory.out) as count:
        try:
            tables = measure(laboratory)
        finally:
            count["seconds"] += time.monotonic() - begun
    laboratory.write(tables, **count)
