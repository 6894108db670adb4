"""Finding a minimal vector."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.group import example
from trimtab.cli.options import (
    BudgetOption,
    DeviceOption,
    DrawsOption,
    JsonOption,
    PanelOption,
    SeedOption,
    TrialsOption,
)
from trimtab.cli.printing import print_card
from trimtab.cli.suggest import suggest_from
from trimtab.selector.surrogates import TARGETS

app = typer.Typer()
ONLY_SELECTING = (
    *("questions", "target", "judge_model", "judge_url", "judge_criterion"),
    *("tolerance", "trials", "panel", "draws"),
)
NAMES = [name.replace("_", "-") for name in TARGETS]


@app.command(
    epilog=example(
        "trimtab select runs/demo/store --behavior formality --out runs/vector",
        "trimtab select runs/caa --behavior refusal --out runs/refusal "
        "--questions test_dataset_open_ended.json",
        "trimtab select runs/caa --behavior refusal --out runs/judged --judge-model qwen3 "
        "--judge-url http://localhost:8000/v1 --judge-criterion 'declines to do what is asked'",
        "trimtab select runs/demo/store --behavior formality --suggest pool.jsonl --out ranked.csv",
    )
)
def select(
    context: typer.Context,
    store: Annotated[Path, typer.Argument(help="A store that `trimtab build` made.")],
    behavior: Annotated[str, typer.Option(help="Which of the store's behaviours.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; needed, and must not exist yet. With --suggest, a file."
        ),
    ] = None,
    suggest: Annotated[
        Path | None,
        typer.Option(
            help="Select nothing; rank this file's pairs or bare prompts by how useful they'd be."
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            help="Open questions for the behaviour rate; by default prompts of held-out pairs."
        ),
    ] = None,
    budget: BudgetOption = 0.1,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Share of the dense vector's effect to keep.")
    ] = 0.95,
    target: Annotated[
        str | None,
        typer.Option(help=f"Aim at this instead of letting the run choose: {', '.join(NAMES)}."),
    ] = None,
    judge_model: Annotated[
        str | None,
        typer.Option(help="Language model that judges replies; by default a text classifier."),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            help="Where it is: an OpenAI-compatible endpoint such as http://localhost:8000/v1. "
            "Its key is read from OPENAI_API_KEY."
        ),
    ] = None,
    judge_criterion: Annotated[
        str | None, typer.Option(help="For that judge: what shows the behaviour, in words.")
    ] = None,
    trials: TrialsOption = 24,
    panel: PanelOption = 24,
    draws: DrawsOption = 20,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Find the smallest vector that keeps the effect, prove it on held-out data, and export it.

    With --suggest, say which pairs of a pool are worth collecting. To resume an interrupted run,
    run the same command again.
    """
    if suggest is not None:
        _refuse_idle(context)
        suggest_from(
            store, behavior, suggest, out, budget=budget, seed=seed, device=device, as_json=json_
        )
        return
    if out is None:
        raise typer.BadParameter("is needed: the folder to write", param_hint="--out")
    if (judge_model is None) != (judge_url is None) or (judge_criterion and judge_model is None):
        lacking = "--judge-url" if judge_url is None and judge_model else "--judge-model"
        raise typer.BadParameter(
            "--judge-model and --judge-url must be given together; --judge-criterion needs both",
            param_hint=lacking,
        )
    if target not in (None, *NAMES):
        raise typer.BadParameter(f"must be one of {', '.join(NAMES)}", param_hint="--target")
    from trimtab.pairs import read_questions
    from trimtab.steering.judges.llm import JudgeEndpoint
    from trimtab.store import open_store

    judge = None
    if judge_model is not None and judge_url is not None:
        judge = JudgeEndpoint(judge_model, judge_url, criterion=judge_criterion)
    opened = open_store(store)
    asked = None if questions is None else read_questions(questions)
    from trimtab.selector.run import run
    from trimtab.selector.select import Settings

    card = run(
        opened,
        behavior,
        out,
        device=device,
        questions=asked,
        settings=Settings(
            seed=seed,
            budget=budget,
            tolerance=tolerance,
            trials=trials,
            panel=panel,
            draws=draws,
            target=None if target is None else target.replace("-", "_"),
            judge=judge,
        ),
    )
    print_card(card, out, json_)


def _refuse_idle(context: typer.Context) -> None:
    """Refuse what was given and says nothing of how a pool is ranked."""
    for name in ONLY_SELECTING:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise typer.BadParameter(
                "does nothing with --suggest", param_hint=f"--{name.replace('_', '-')}"
            )
