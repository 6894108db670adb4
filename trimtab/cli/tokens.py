"""A text's strongest features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer
from rich.console import Console

from trimtab.cli.group import example
from trimtab.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    StatedModelOption,
    StatedSaeOption,
)
from trimtab.cli.printing import print_json
from trimtab.errors import ModelError

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

app = typer.Typer()

SAME_SAE = ("sae_sha256", "sae_config_sha256")  # weights, and what they are run by


@app.command(
    epilog=example(
        'trimtab tokens "I am sorry, but I cannot help with that."',
        "trimtab tokens --of runs/demo/store --sample formality-001 --json",
    )
)
def tokens(
    text: Annotated[str | None, typer.Argument(help="What to run through the model.")] = None,
    of: Annotated[
        Path | None,
        typer.Option(help="A store: use its labels, and its model and SAE unless named here."),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(help="Id of a stored sample, instead of a text; no model runs."),
    ] = None,
    behavior: Annotated[
        str | None, typer.Option(help="The sample's behaviour, if its id is ambiguous.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many features to show per token.")] = 3,
    chat: Annotated[
        bool, typer.Option("--chat", help="Render as a user's message, with the chat template.")
    ] = False,
    model: StatedModelOption = None,
    sae: StatedSaeOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Show a text's strongest features, token by token."""
    if (text is None) == (sample is None):
        raise typer.BadParameter("give either a text or --sample", param_hint="TEXT")
    from trimtab.store import open_store

    store = None if of is None else open_store(of)
    rows: Sequence[Mapping[str, Any]]
    if text is None:
        if store is None:
            raise typer.BadParameter("is needed with --sample", param_hint="--of")
        from trimtab.store.reading.by_token import stored_features

        rows = stored_features(store, str(sample), behavior=behavior, top=top)
        described = store.descriptions()
    else:
        from trimtab.model.features.by_token import strongest_features
        from trimtab.model.render import render_prompt
        from trimtab.store.fingerprint import prompt_form

        fields = {} if store is None else store.fingerprint
        loaded, encoder = _load(fields, model, sae, dtype, device)
        system = prompt_form(fields)[1] if fields else None
        asked = [{"role": "user", "content": text}]
        ids = render_prompt(loaded, asked, chat=chat, system=system if chat else None)
        rows = strongest_features(loaded, encoder, ids, top=top)
        described = _beside(encoder.spec) if store is None else store.descriptions()
    labels = dict(described.select("feature", "label").iter_rows())
    labelled = [
        {
            **row,
            "features": [{**one, "label": labels.get(one["feature"])} for one in row["features"]],
        }
        for row in rows
    ]
    if json_:
        print_json(labelled)
        return
    from trimtab.model.features.token_table import token_table

    Console().print(token_table(labelled))


def _load(
    fields: Mapping[str, str], model: str | None, sae: str | None, dtype: str, device: str
) -> "tuple[LanguageModel, SAE]":
    """Load model and SAE; a store's `fields` fill what is not named, and the SAE must be its."""
    from trimtab.model.language_model import load_model
    from trimtab.model.sae import load_sae

    revision = None if model else fields.get("model_revision") or None
    name = model or fields.get("model")
    loaded = load_model(name, dtype=dtype, device=device, revision=revision)
    encoder = load_sae(sae or fields.get("sae"), loaded)
    if encoder is None:
        raise ModelError("without an SAE there are no features; name one with --sae")
    found = encoder.fingerprint()
    if fields and any(found[name] != fields.get(name) for name in SAME_SAE):
        raise ModelError(
            f"{encoder.spec} is not the store's SAE, and the store's labels are for its own SAE's"
            " features; leave out --sae or --of"
        )
    return loaded, encoder


def _beside(sae: str) -> pl.DataFrame:
    """The descriptions that lie beside an SAE's weights, if any do."""
    from trimtab.model.features.descriptions import SCHEMA, descriptions_file, read_descriptions

    file = descriptions_file(sae)
    return pl.DataFrame(schema=SCHEMA) if file is None else read_descriptions(file)
