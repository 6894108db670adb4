"""The whole way in one command, from packaged pairs to a vector."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.group import example
from trimtab.cli.options import DrawsOption, JsonOption, PanelOption, SeedOption, TrialsOption
from trimtab.cli.printing import print_card
from trimtab.errors import PairsError

app = typer.Typer()


@app.command(epilog=example("trimtab demo --out runs/demo"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder for store, vector and report.")] = Path(
        "runs/demo"
    ),
    behavior: Annotated[str, typer.Option(help="One of the packaged contrast sets.")] = "formality",
    seed: SeedOption = 0,
    trials: TrialsOption = 12,
    panel: PanelOption = 12,
    draws: DrawsOption = 5,
    json_: JsonOption = False,
) -> None:
    """Go from packaged pairs to a minimal vector of the default model, with a report."""
    from trimtab.pairs import load_packaged, packaged_behaviors, packaged_questions

    if behavior not in packaged_behaviors():
        known = ", ".join(packaged_behaviors())
        raise PairsError(f"no packaged behaviour {behavior!r}; choose from {known}")
    from trimtab.selector.run import build_and_run
    from trimtab.selector.select import Settings

    card = build_and_run(
        load_packaged(behavior),
        behavior,
        out,
        questions=packaged_questions(behavior),
        settings=Settings(seed=seed, trials=trials, panel=panel, draws=draws),
    )
    print_card(card, out / "vector", json_)
