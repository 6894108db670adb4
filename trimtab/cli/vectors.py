"""What is done with an exported vector."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.group import example
from trimtab.cli.options import DeviceOption, DtypeOption, JsonOption, StatedModelOption
from trimtab.cli.printing import print_json
from trimtab.errors import VectorError

app = typer.Typer()


@app.command(
    epilog=example('trimtab steer runs/demo/vector "May I ask you a favour?" --multiplier 1')
)
def steer(
    vector: Annotated[Path, typer.Argument(help="An exported vector's folder.")],
    prompt: Annotated[str, typer.Argument(help="What the user says.")],
    multiplier: Annotated[
        float,
        typer.Option(help="In units of the calibrated strength: 0 is unsteered, -1 the opposite."),
    ] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of the reply.")] = 64,
    model: StatedModelOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Answer a prompt without and with the vector."""
    from trimtab.model.features.descriptions import visible
    from trimtab.selector.exported.folder import read_card, telling_what_lacks
    from trimtab.store.fingerprint import prompt_form

    card = read_card(vector)
    with telling_what_lacks(vector):
        name, recorded = str(card["model"]), str(card["fingerprint"]["model_revision"])
        chat, system = prompt_form(card["fingerprint"])
    from trimtab.model.language_model import load_model
    from trimtab.steering.generation import generate, read_prompts
    from trimtab.steering.vector import load_vector

    revision = None if model else recorded or None
    loaded = load_model(model or name, dtype=dtype, device=device, revision=revision)
    direction, calibrated = load_vector(vector)
    direction.check(loaded)
    asked = [({"role": "user", "content": prompt},)]
    prompts = read_prompts(loaded, asked, chat=chat, system=system, room=max_new_tokens)
    replies = {
        name: generate(prompts, direction, strength, max_new_tokens=max_new_tokens)[0]
        for name, strength in (("unsteered", 0.0), ("steered", multiplier * calibrated))
    }
    if json_:
        print_json({"prompt": prompt, "multiplier": multiplier * calibrated, **replies})
        return
    for name, reply in replies.items():
        shown = "\n".join(visible(line) for line in reply.split("\n"))
        typer.echo(f"{name}:\n{shown}\n")


@app.command(epilog=example("trimtab export runs/demo/vector --format gguf --out formality.gguf"))
def export(
    vector: Annotated[Path, typer.Argument(help="An exported vector's folder.")],
    out: Annotated[Path, typer.Option(help="File to write; it must not exist yet.")],
    format_: Annotated[str, typer.Option("--format", help="gguf or safetensors.")] = "gguf",
) -> None:
    """Write the vector in another program's format."""
    from trimtab.selector.exported.folder import read_card
    from trimtab.steering.formats import WRITERS, safetensors
    from trimtab.steering.formats.stored import VECTOR_FILE

    if format_ not in WRITERS:
        raise typer.BadParameter(f"must be one of {', '.join(WRITERS)}", param_hint="--format")
    if out.exists():
        raise VectorError(f"{out} already exists; name another file, or remove it first")
    read_card(vector)
    stored = safetensors.read(vector / VECTOR_FILE)
    if not out.parent.is_dir():
        raise VectorError(f"{out.parent} is not a folder; create it first, or name another --out")
    WRITERS[format_](stored, out)
    typer.echo(f"{out}: {stored.hook_point}, strength 1 means multiplier {stored.multiplier:.4g}")


@app.command(epilog=example("trimtab report runs/demo/vector"))
def report(
    vector: Annotated[Path, typer.Argument(help="An exported vector's folder.")],
) -> None:
    """Draw the report of an exported vector again."""
    from trimtab.selector.report import render_report

    typer.echo(str(render_report(vector)))
