"""Explaining a vector that is there already."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trimtab.cli.group import example
from trimtab.cli.options import (
    BudgetOption,
    DeviceOption,
    JsonOption,
    StatedModelOption,
    StatedSaeOption,
)
from trimtab.cli.printing import print_json
from trimtab.selector.exported.folder import CARD, folder_of

SHOWN_FEATURES = 12

app = typer.Typer()


@app.command(
    epilog=example(
        "trimtab explain runs/demo/vector --store runs/demo/store --out runs/explained",
        "trimtab explain control.gguf --hook-point blocks.15.hook_resid_post",
        "trimtab explain direction.npy --hook-point blocks.15.hook_resid_post --pairs pairs.jsonl",
    )
)
def explain(
    file: Annotated[
        Path,
        typer.Argument(help="safetensors, a GGUF control vector, .npy, or an exported folder."),
    ],
    store: Annotated[
        Path | None, typer.Option(help="A store whose pairs the vector is measured on.")
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(help="Or files of contrast pairs, which are run first; may be repeated."),
    ] = None,
    behavior: Annotated[
        str | None, typer.Option(help="Which behaviour of the pairs, if there are several.")
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            help="Open questions for the behaviour rate; by default prompts of held-out pairs."
        ),
    ] = None,
    hook_point: Annotated[
        str | None,
        typer.Option(help="Where it acts, if the file does not say: blocks.15.hook_resid_post."),
    ] = None,
    tensor: Annotated[
        str | None, typer.Option(help="Which tensor of a safetensors file that holds several.")
    ] = None,
    positions: Annotated[
        str | None,
        typer.Option(
            help="Positions to steer: all, prompt_end (the prompt's last token and all that "
            "follow) or generated; by default what the file says, or prompt_end."
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="No chat template for --pairs.")] = False,
    model: StatedModelOption = None,
    sae: StatedSaeOption = None,
    budget: BudgetOption = 0.1,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed for splits and controls; by default an exported vector's own."),
    ] = None,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write, with a report; it must not exist yet.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Say what a vector is made of, what it breaks, and how its effect compares with controls.

    Without pairs: its decomposition into features, and its damage. To resume an interrupted run
    that has --out, run the same command again.
    """
    if store is not None and pairs:
        raise typer.BadParameter("give either --store or --pairs", param_hint="--pairs")
    if store is not None and model is not None:
        raise typer.BadParameter(
            "not with --store, which names its own model", param_hint="--model"
        )
    if questions is not None and store is None and not pairs:
        raise typer.BadParameter("needs --store or --pairs", param_hint="--questions")
    if behavior is not None and store is None and not pairs:
        raise typer.BadParameter("needs --store or --pairs", param_hint="--behavior")
    if raw and not pairs:
        raise typer.BadParameter("needs --pairs", param_hint="--raw")
    if raw and (folder_of(file) / CARD).is_file():
        raise typer.BadParameter(
            "not for an exported vector, whose card says how prompts are rendered",
            param_hint="--raw",
        )
    from trimtab.model.hook_points import parse_hook_point
    from trimtab.pairs import read_pairs, read_questions
    from trimtab.steering.formats.recognise import read_any
    from trimtab.steering.positions import check_positions

    point = None if hook_point is None else parse_hook_point(hook_point)
    steered = None if positions is None else check_positions(positions)
    read_any(file, hook_point=point, tensor=tensor)  # a mistake shows before anything is loaded
    samples = read_pairs(pairs, behavior=behavior) if pairs else []
    asked = None if questions is None else read_questions(questions)
    from trimtab.selector.explanation.run import Pairs, Reader, Where, run
    from trimtab.store import open_store

    measured_on = None
    if store is not None or samples:
        opened = None if store is None else open_store(store)
        measured_on = Pairs(opened, samples, behavior, asked, chat=not raw)
    card, tables = run(
        file,
        measured_on,
        out,
        where=Where(point, tensor, steered),
        reader=Reader(model, sae, device),
        budget=budget,
        seed=seed,
    )
    print_explanation(card, tables.get("features"), out or file, json_)
    if out is not None and not json_:
        typer.echo(f"\nreport: {out / 'report.html'}")


def print_explanation(
    card: Mapping[str, Any], features: pl.DataFrame | None, folder: Path, as_json: bool
) -> None:
    """Print what a vector is made of and what it does, as the card of `folder` says."""
    if as_json:
        print_json(card)
        return
    from trimtab.selector.exported.folder import telling_what_lacks

    with telling_what_lacks(folder):
        _print_explanation(card, features)


def _print_explanation(card: Mapping[str, Any], features: pl.DataFrame | None) -> None:
    from trimtab.model.features.descriptions import visible
    from trimtab.selector.report.explained import WAYS, effects, explained, said
    from trimtab.selector.report.numbers import estimate, number

    console = Console()
    sizes = explained(card)
    if sizes:
        table = Table("features", *WAYS.values(), title="cosine to the vector")
        for size, row in sizes.items():
            cosines = [number(row[way]["cosine"], 2) if way in row else "–" for way in WAYS]
            table.add_row(Text(visible(str(size))), *cosines)
        console.print(table)
    if features is not None:
        table = Table("feature", "coefficient", "share", "shift", "label")
        for one in features.head(SHOWN_FEATURES).iter_rows(named=True):
            numbers = (number(one[name], 3) for name in ("coefficient", "share", "shift"))
            table.add_row(str(one["feature"]), *numbers, Text(visible(one["label"] or "")))
        console.print(table)
    if "effects" in card:
        table = Table("vector", "held-out effect, nats per token", "behaviour rate", "beyond")
        for name, rate, effect, beyond in effects(card):
            table.add_row(Text(visible(name)), estimate(effect), estimate(rate), estimate(beyond))
        console.print(table)
    for sentence in said(card):
        typer.echo(visible(sentence))
