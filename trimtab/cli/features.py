"""An SAE's features: describing them, looking them up."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console

from trimtab.cli.group import example
from trimtab.cli.options import DeviceOption, DtypeOption, JsonOption, ModelOption
from trimtab.cli.printing import print_json
from trimtab.errors import ModelError

CONTEXT_TOKENS = 256  # of the windows by which features are described

app = typer.Typer()


@app.command(
    epilog=example(
        "trimtab describe runs/sae corpus.jsonl.gz",
        "trimtab describe gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical text.jsonl "
        "--model google/gemma-2-2b --out features.parquet",
    )
)
def describe(
    sae: Annotated[str, typer.Argument(help="A folder, or release/id of sae_lens.")],
    text: Annotated[
        list[Path], typer.Argument(help="JSONL of texts or chats, gzipped or not, or plain text.")
    ],
    model: ModelOption = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default in the SAE's folder.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1000, help="Read at most this many.")] = 1_000_000,
    quote: Annotated[
        list[str] | None,
        typer.Option(help="Quote contexts from this source only; may be repeated. Default: any."),
    ] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Describe an SAE's features by the text they fire on and the tokens they promote.

    If the descriptions are in the SAE's folder, stores built with that SAE later will show them.
    """
    from trimtab.model.features.descriptions import FILE, write_descriptions

    if out is None and not Path(sae).is_dir():
        raise typer.BadParameter("is needed unless the SAE is a folder", param_hint="--out")
    out = out or Path(sae) / FILE
    if out.exists():
        raise ModelError(f"{out} already exists; name another file, or remove it first")
    if not out.parent.is_dir():
        raise ModelError(f"{out.parent} is not a folder; create it first, or name another --out")
    if missing := [file for file in text if not file.is_file()]:
        raise ModelError(f"{missing[0]} is not a file")
    from trimtab.model.documents import windows
    from trimtab.model.features.describe import describe as describe_features
    from trimtab.model.language_model import load_model
    from trimtab.model.sae import load_sae

    loaded = load_model(model, dtype=dtype, device=device)
    encoder = load_sae(sae, loaded)
    if encoder is None:
        raise typer.BadParameter("with none there are no features to describe", param_hint="SAE")
    read = windows(text, loaded, length=CONTEXT_TOKENS, part="train", held_out=0.0)
    table = describe_features(loaded, encoder, read, tokens=tokens, quote=quote or None)
    write_descriptions(table, out)
    silent = table.filter(pl.col("firing_rate") == 0).height
    typer.echo(f"{out}: {table.height} features, of which {silent} never fired")


@app.command(
    epilog=example("trimtab feature 1896 483", "trimtab feature 1896 --of runs/demo/store --json")
)
def feature(
    numbers: Annotated[list[int], typer.Argument(min=0, help="Which features.")],
    of: Annotated[
        Path | None,
        typer.Option(
            help="An SAE's folder, a store or an exported vector; by default the packaged SAE."
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show what features fire on, what they promote, and where they are strongest."""
    from trimtab.model.features.card import feature_card
    from trimtab.selector.exported.described import describe_features

    rows = describe_features(numbers, of)
    if json_:
        print_json(rows)
        return
    for row in rows:
        Console().print(feature_card(row))
