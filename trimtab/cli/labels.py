"""Labels of other tools, and what a store holds in their formats."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.group import example
from trimtab.cli.options import JsonOption
from trimtab.cli.printing import print_json

app = typer.Typer(
    help="Take features' labels from other tools, or write a store's for them.",
    epilog=example("trimtab labels import runs/gemma v1/gemma-2-2b/12-gemmascope-res-16k"),
    no_args_is_help=True,
)


@app.command(
    "import",
    epilog=example(
        "trimtab labels import runs/gemma v1/gemma-2-2b/12-gemmascope-res-16k",
        "trimtab labels import runs/sae results/refusal --source layers.15",
    ),
)
def import_(
    path: Annotated[Path, typer.Argument(help="A store, or an SAE's folder with descriptions.")],
    labels: Annotated[
        Path, typer.Argument(help="Neuronpedia's file or folder of explanations, or delphi's.")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            help="Whose labels to take: MODEL/SOURCE of Neuronpedia, or delphi's module. Without, "
            "those of another model or layer are refused."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--type", help="Of Neuronpedia's explanations; the newest of any, without."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Put the labels of a Neuronpedia export or a delphi folder in the place of the automatic ones.

    No number of a store changes, and nothing runs again.
    """
    from trimtab.store.labels import import_labels

    taken = import_labels(path, labels, source=source, kind=kind)
    if json_:
        print_json({"path": str(path), **taken._asdict()})
        return
    others = f"; {taken.n_left_out} of other SAEs or types left out" if taken.n_left_out else ""
    typer.echo(f"{path}: {taken.n_labels} labels{others}")


@app.command(
    epilog=example(
        "trimtab labels export runs/demo/store --out runs/neuronpedia",
        "trimtab labels export runs/demo/store --format delphi --out runs/delphi",
    )
)
def export(
    store: Annotated[Path, typer.Argument(help="A store with an SAE.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet.")],
    format_: Annotated[str, typer.Option("--format", help="neuronpedia or delphi.")] = (
        "neuronpedia"
    ),
) -> None:
    """Write a store's labels and activations so that other tools can show or explain them."""
    from trimtab.store import open_store
    from trimtab.store.labels import FORMATS, export_labels

    if format_ not in FORMATS:
        raise typer.BadParameter(f"must be one of {', '.join(FORMATS)}", param_hint="--format")
    export_labels(open_store(store), out, format=format_)
    files = sum(1 for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {files} files")
