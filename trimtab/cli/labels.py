"""Labels of other tools, and what a store holds in their formats."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.group import example
from trimtab.cli.options import JsonOption
from trimtab.cli.printing import print_json, print_rows

app = typer.Typer(
    help="Search features' labels, take them from other tools or a language model, or write them.",
    epilog=example(
        'trimtab labels search "common misconceptions that need correction"',
        "trimtab labels import runs/gemma v1/gemma-2-2b/12-gemmascope-res-16k",
    ),
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
            help="Whose labels to take: a Neuronpedia MODEL/SOURCE, or a delphi module. By "
            "default, labels of another model or layer are refused."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--type", help="Neuronpedia explanation type; by default the newest of any."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Replace the automatic labels with those of a Neuronpedia export or a delphi folder.

    None of a store's numbers change, and nothing is run again.
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


@app.command(
    epilog=example(
        'trimtab labels search "medical treatment"',
        'trimtab labels search "saying sorry" --of runs/demo/store --most 5 --json',
        'trimtab labels search "saying sorry" --of runs/gemma --embed-model text-embedding-3-small '
        "--embed-url https://api.openai.com/v1",
    )
)
def search(
    phrase: Annotated[str, typer.Argument(help="What is looked for.")],
    of: Annotated[
        Path | None,
        typer.Option(
            help="An SAE's folder, a store or an exported vector; by default the packaged SAE."
        ),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 10,
    embed_model: Annotated[
        str | None, typer.Option(help="Model that embeds labels; by default words are compared.")
    ] = None,
    embed_url: Annotated[
        str | None, typer.Option(help="Its OpenAI-compatible endpoint, often ending in /v1.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Find features by a phrase, the most similar first.

    By default the phrase is compared, by words and parts of words, with the label, the tokens that
    a feature fires on and those that it promotes. With --embed-model and --embed-url, an endpoint's
    embeddings compare it with the labels by meaning.
    """
    from trimtab.model.features.search import search as search_labels
    from trimtab.selector.exported.described import described_in

    embed = None
    if _both("--embed-model", embed_model, "--embed-url", embed_url):
        from trimtab.model.endpoint import Connection, Endpoint

        endpoint = Endpoint(str(embed_model), str(embed_url), role="embed")
        embed = Connection(endpoint).embed
    found = search_labels(described_in(of), phrase, most, embed=embed)
    if not (found.height or json_):
        typer.echo("no feature matches this phrase")
        return
    print_rows(found, json_, as_csv=False)


@app.command(
    epilog=example(
        "trimtab labels ask runs/sae --label-model qwen3 --label-url http://localhost:8000/v1",
        "trimtab labels ask runs/demo/store --label-model gpt-5-mini --label-url "
        "https://api.openai.com/v1 --feature 3370 --feature 7319",
    )
)
def ask(
    path: Annotated[Path, typer.Argument(help="A store, or an SAE's folder with descriptions.")],
    label_model: Annotated[str, typer.Option(help="Language model that names features.")],
    label_url: Annotated[
        str, typer.Option(help="Its OpenAI-compatible endpoint, often ending in /v1.")
    ],
    feature: Annotated[
        list[int] | None,
        typer.Option(help="A feature to name; may be repeated. By default all that fire."),
    ] = None,
) -> None:
    """Have a language model name features from the contexts that they are strongest in.

    Its labels replace the automatic ones. If it is interrupted, the labels made so far are kept;
    run the same command again to continue. The key is read from OPENAI_API_KEY.
    """
    from trimtab.model.endpoint import Endpoint
    from trimtab.selector.stages import Stages
    from trimtab.store.labels import label_features

    with Stages(shown=True) as stages:
        labelled = label_features(
            path,
            Endpoint(label_model, label_url, role="label"),
            feature,
            say=lambda done, total: stages("naming features", done, total),
        )
    typer.echo(f"{path}: {labelled} labels")


def _both(one: str, first: str | None, other: str, second: str | None) -> bool:
    """Whether two options that go together are given; one alone is refused."""
    if (first is None) != (second is None):
        missing = other if second is None else one
        raise typer.BadParameter(f"{one} and {other} must be given together", param_hint=missing)
    return first is not None
