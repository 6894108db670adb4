"""A study as a command.

    python -m experiments.NAME --out runs/experiments
    python -m experiments.NAME --out runs/experiments --config FILE.toml --data DATA
    python -m experiments.NAME --out runs/experiments --draw

The folder's store serves every study; results lie in `runs/experiments/NAME`. A study that was
interrupted resumes; `--draw` makes its tables and figures again, without a model.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.config import SMALL, read_config, sizes_of
from experiments.laboratory import Laboratory, counted
from trimtab.errors import SelectionError, TrimtabError
from trimtab.model.language_model import load_model
from trimtab.model.sae import load_sae

Measure = Callable[[Laboratory], dict[str, Any]]
Draw = Callable[[Path], str]


def command(name: str, measure: Measure, draw: Draw, sizes: Any) -> None:
    """Run a study by the options of the command line.

    Args:
        name: of the study, and of its folder.
        measure: takes the laboratory and returns the study's tables by name.
        draw: takes the study's folder, draws its figures into it, and returns its page.
        sizes: what is measured where the config says nothing else.
    """

    def main(
        out: Annotated[Path, typer.Option(help="Folder of the studies.", show_default=False)],
        config: Annotated[Path, typer.Option(help="What to run on.")] = SMALL,
        data: Annotated[Path | None, typer.Option(help="Folder of data sets.")] = None,
        only_draw: Annotated[bool, typer.Option("--draw", help="Draw, measure nothing.")] = False,
    ) -> None:
        try:
            if not only_draw:
                _measured(name, measure, sizes, out, config, data)
            typer.echo(draw(out / name))
        except TrimtabError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error

    typer.run(main)


def _measured(
    name: str, measure: Measure, sizes: Any, out: Path, file: Path, data: Path | None
) -> None:
    config = read_config(file)
    model = load_model(config.model, dtype=config.dtype, device=config.device)
    sae = load_sae(config.sae, model)
    if sae is None:
        raise SelectionError(f"{file}: the studies of behaviours need an SAE")
    laboratory = Laboratory(
        config, data, model, sae, out, out / name, sizes_of(config, name, sizes)
    )
    begun = time.monotonic()
    with counted(model, laboratory.out) as count:
        try:
            tables = measure(laboratory)
        finally:
            count["seconds"] += time.monotonic() - begun
    laboratory.write(tables, **count)
