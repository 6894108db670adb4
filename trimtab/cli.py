"""The command line: one command, one call. Whatever is heavy is imported inside the command."""

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, NoReturn

import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from trimtab.errors import ModelError, PairsError, TrimtabError, VectorError
from trimtab.pairs import FORMATS

CONTEXT_TOKENS = 256  # of the windows by which features are described
SHOWN_FEATURES = 8  # of an exported vector


class Commands(TyperGroup):
    """Turns a user's mistake into one line on stderr, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 1 after an error of the user's, with 130 after Ctrl-C."""
        try:
            return super().invoke(ctx)
        except TrimtabError as error:
            _fail(str(error), 1)
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
        except KeyboardInterrupt as stop:
            _fail(str(stop) or "interrupted; the same command goes on where it stopped", 130)


app = typer.Typer(
    cls=Commands,
    help="Find the minimal steering vector of a language-model behaviour, "
    "and account for every part of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Hub name, folder or .gguf file; the embedded default without."),
]
SaeOption = Annotated[
    str | None,
    typer.Option(
        "--sae", help="release/id of sae_lens, a folder, or `none`; the packaged default without."
    ),
]
DtypeOption = Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")]
SeedOption = Annotated[int, typer.Option(help="Of splits, random controls and search.")]
TrialsOption = Annotated[int, typer.Option(min=0, help="Trials of the Optuna search.")]
BudgetOption = Annotated[
    float, typer.Option(help="Damage that vectors are compared at, KL in nats per token.")
]


def example(*lines: str) -> str:
    """Return the end of a command's help: examples to copy."""
    return "Example:\n\n" + "\n\n".join(f"`{line}`" for line in lines)


@app.command(epilog=example("trimtab demo --out runs/demo"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder for store, vector and report.")] = Path(
        "runs/demo"
    ),
    behavior: Annotated[str, typer.Option(help="One of the packaged contrast sets.")] = "formality",
    seed: SeedOption = 0,
    trials: TrialsOption = 12,
    json_: JsonOption = False,
) -> None:
    """Go from packaged pairs to a minimal vector of the default model, with a report."""
    from trimtab.pairs import load_packaged, packaged_behaviors, packaged_questions

    if behavior not in packaged_behaviors():
        known = ", ".join(packaged_behaviors())
        raise PairsError(f"no packaged behaviour {behavior!r}; packaged are {known}")
    from trimtab.selector.run import build_and_run
    from trimtab.selector.select import Settings

    card = build_and_run(
        load_packaged(behavior),
        behavior,
        out,
        questions=packaged_questions(behavior),
        settings=Settings(seed=seed, trials=trials),
    )
    _print_card(card, out / "vector", json_)


@app.command(
    epilog=example(
        "trimtab build runs/store pairs.jsonl --behavior politeness",
        "trimtab build runs/store refusal/generate_dataset.json --format caa-spelled",
        "trimtab build runs/gemma pairs.jsonl --model google/gemma-2-2b-it "
        "--sae gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical",
    )
)
def build(
    store: Annotated[Path, typer.Argument(help="The store's folder; made if it is missing.")],
    pairs: Annotated[list[Path], typer.Argument(help="Files of contrast pairs.")],
    format_: Annotated[
        str, typer.Option("--format", help="auto, " + ", ".join(FORMATS) + ".")
    ] = "auto",
    behavior: Annotated[
        str | None, typer.Option(help="Name of the behaviour, where the files give none.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=COLUMN for tables, e.g. positive=good; may be repeated."),
    ] = None,
    model: ModelOption = None,
    sae: SaeOption = None,
    hook_point: Annotated[
        str | None, typer.Option(help="Where to read without an SAE: blocks.15.hook_resid_post.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="No chat template.")] = False,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    device_map: Annotated[
        str | None, typer.Option(help="For a model larger than one GPU: auto, balanced.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Run pairs through a model and its SAE and store what they activate.

    An interrupted build goes on where it stopped; pairs that are stored already cost nothing.
    """
    from trimtab.pairs import read_pairs

    samples = read_pairs(pairs, format=format_, behavior=behavior, columns=_columns(column or []))
    from trimtab.model.language_model import load_model
    from trimtab.model.sae import load_sae
    from trimtab.store import build as build_store

    loaded = load_model(model, dtype=dtype, device=device, device_map=device_map)
    built = build_store(
        store,
        samples,
        loaded,
        load_sae(sae, loaded),
        hook_point=hook_point,
        chat=not raw,
        system=system,
    )
    if json_:
        _print_json({"path": str(store), "samples": built.status_counts()})
        return
    counts = ", ".join(f"{n} {status}" for status, n in built.status_counts().items())
    typer.echo(f"{store}: {counts}; behaviours: {', '.join(built.behaviors())}")


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
        Path | None, typer.Option(help="File to write; without, in the SAE's folder.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1000, help="Read at most so many.")] = 1_000_000,
    quote: Annotated[
        list[str] | None,
        typer.Option(help="Source whose text may be quoted; may be repeated. All may, without."),
    ] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Describe an SAE's features by the text they fire on and the tokens they promote.

    Stores that are built later with an SAE whose folder holds its descriptions show them.
    """
    from trimtab.model.features.descriptions import FILE, write_descriptions

    if out is None and not Path(sae).is_dir():
        raise typer.BadParameter("is needed where the SAE is no folder", param_hint="--out")
    out = out or Path(sae) / FILE
    if out.exists():
        raise ModelError(f"{out} exists already; name another file, or remove it first")
    if not out.parent.is_dir():
        raise ModelError(f"{out.parent} is no folder; make it first, or name another --out")
    if missing := [file for file in text if not file.is_file()]:
        raise ModelError(f"{missing[0]} is no file")
    from trimtab.model.documents import windows
    from trimtab.model.features.describe import describe as describe_features
    from trimtab.model.language_model import load_model
    from trimtab.model.sae import load_sae

    loaded = load_model(model, dtype=dtype, device=device)
    encoder = load_sae(sae, loaded)
    if encoder is None:
        raise typer.BadParameter("none has no features to describe", param_hint="SAE")
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
        typer.Option(help="An SAE's folder, a store or an exported vector; the packaged SAE else."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show what features fire on, what they promote, and where they are strongest."""
    from trimtab.model.features.card import feature_card
    from trimtab.selector.described import describe_features

    rows = describe_features(numbers, of)
    if json_:
        _print_json(rows)
        return
    for row in rows:
        Console().print(feature_card(row))


@app.command(epilog=example("trimtab info runs/demo/store", "trimtab info runs/demo/vector --json"))
def info(
    path: Annotated[Path, typer.Argument(help="A store, or an exported vector's folder.")],
    json_: JsonOption = False,
) -> None:
    """Say what a store or an exported vector holds."""
    if _is_vector(path):
        from trimtab.selector.folder import read_card

        _print_card(read_card(path), path, json_)
        return
    from trimtab.pairs import describe
    from trimtab.store import open_store

    opened = open_store(path)
    behaviors = {name: describe(opened.samples(name)) for name in opened.behaviors()}
    if json_:
        _print_json(
            {
                "path": str(path),
                "content_hash": opened.content_hash,
                "fingerprint": opened.fingerprint,
                "samples": opened.status_counts(),
                "behaviors": {name: _plain(quality) for name, quality in behaviors.items()},
            }
        )
        return
    typer.echo(f"{path}: {opened.status_counts()}")
    for name, quality in behaviors.items():
        typer.echo(f"\n{name}")
        for field, value in _plain(quality).items():
            typer.echo(f"  {field.replace('_', ' ')}: {_round(value)}")
    typer.echo("\nbuilt with")
    for field, value in opened.fingerprint.items():
        typer.echo(f"  {field}: {value}")


@app.command(
    epilog=example(
        'trimtab sql runs/demo/store "SELECT * FROM contrast ORDER BY abs(cohens_d) DESC LIMIT 5"',
        'trimtab sql runs/demo/vector "SELECT feature, sum(contribution) FROM receipt GROUP BY 1"',
    )
)
def sql(
    path: Annotated[Path, typer.Argument(help="A store, or an exported vector's folder.")],
    query: Annotated[str, typer.Argument(help="One SELECT; `SHOW TABLES` says what there is.")],
    json_: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    max_rows: Annotated[int, typer.Option(min=1, help="Print at most so many rows.")] = 1000,
) -> None:
    """Query a store, or an exported vector's tables, in a read-only sandbox."""
    if _is_vector(path):
        from trimtab.selector.folder import tables as files
        from trimtab.store.sandbox import query as run_query
        from trimtab.store.sandbox import tables

        # Left open, DuckDB's threads outlive the interpreter and abort the process at its end.
        with closing(tables(files(path))) as connection:
            rows = run_query(connection, query, max_rows=max_rows)
    else:
        from trimtab.store import open_store

        rows = open_store(path).sql(query, max_rows=max_rows)
    _print_rows(rows, json_, csv)


@app.command(epilog=example("trimtab verify runs/demo/store", "trimtab verify runs/demo/vector"))
def verify(
    path: Annotated[Path, typer.Argument(help="A store, or an exported vector's folder.")],
    json_: JsonOption = False,
) -> None:
    """Check checksums, and that a store's catalog or a vector's receipt adds up.

    Exits with 1 when something is wrong.
    """
    if _is_vector(path):
        from trimtab.selector.verify import problems

        found = problems(path)
    else:
        from trimtab.store import open_store

        found = open_store(path).verify()
    if json_:
        _print_json({"path": str(path), "sound": not found, "problems": found})
    else:
        typer.echo("\n".join(found) if found else f"{path}: everything holds")
    if found:
        raise typer.Exit(1)


@app.command(
    epilog=example(
        "trimtab select runs/demo/store --behavior refusal --out runs/vector",
        "trimtab select runs/caa --behavior refusal --out runs/refusal "
        "--questions test_dataset_open_ended.json",
    )
)
def select(
    store: Annotated[Path, typer.Argument(help="A store that `trimtab build` made.")],
    behavior: Annotated[str, typer.Option(help="Which of the store's behaviours.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet.")],
    questions: Annotated[
        Path | None,
        typer.Option(help="Open questions for the behaviour rate; prompts of held-out pairs else."),
    ] = None,
    budget: BudgetOption = 0.1,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Share of the full effect that must be kept.")
    ] = 0.95,
    target: Annotated[
        str | None, typer.Option(help="Force a surrogate: dataset or own_replies.")
    ] = None,
    trials: TrialsOption = 24,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Find the smallest vector that keeps the effect, prove it held out, and export it.

    An interrupted run resumes when it is called again.
    """
    if target not in (None, "dataset", "own_replies"):
        raise typer.BadParameter("must be dataset or own_replies", param_hint="--target")
    from trimtab.pairs import read_questions
    from trimtab.store import open_store

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
            target=target,  # type: ignore[arg-type]
        ),
    )
    _print_card(card, out, json_)


@app.command(
    epilog=example('trimtab steer runs/demo/vector "May I ask you a favour?" --multiplier 1')
)
def steer(
    vector: Annotated[Path, typer.Argument(help="An exported vector's folder.")],
    prompt: Annotated[str, typer.Argument(help="What the user says.")],
    multiplier: Annotated[
        float,
        typer.Option(help="Times the calibrated strength: 0 is unsteered, -1 the opposite."),
    ] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of the reply.")] = 64,
    model: ModelOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Answer a prompt without and with the vector."""
    from trimtab.selector.folder import read_card

    card = read_card(vector)
    from trimtab.model.language_model import load_model
    from trimtab.steering.generation import generate, read_prompts
    from trimtab.steering.vector import load_vector
    from trimtab.store.fingerprint import prompt_form

    revision = None if model else card["fingerprint"]["model_revision"] or None
    loaded = load_model(model or card["model"], dtype=dtype, device=device, revision=revision)
    direction, calibrated = load_vector(vector)
    direction.check(loaded)
    chat, system = prompt_form(card["fingerprint"])
    asked = [({"role": "user", "content": prompt},)]
    prompts = read_prompts(loaded, asked, chat=chat, system=system)
    replies = {
        name: generate(prompts, direction, strength, max_new_tokens=max_new_tokens)[0]
        for name, strength in (("unsteered", 0.0), ("steered", multiplier * calibrated))
    }
    if json_:
        _print_json({"prompt": prompt, "multiplier": multiplier * calibrated, **replies})
        return
    for name, reply in replies.items():
        typer.echo(f"{name}:\n{reply}\n")


@app.command(epilog=example("trimtab export runs/demo/vector --format gguf --out refusal.gguf"))
def export(
    vector: Annotated[Path, typer.Argument(help="An exported vector's folder.")],
    out: Annotated[Path, typer.Option(help="File to write; it must not exist yet.")],
    format_: Annotated[str, typer.Option("--format", help="gguf or safetensors.")] = "gguf",
) -> None:
    """Write the vector in another program's format."""
    from trimtab.selector.folder import read_card
    from trimtab.steering.formats import WRITERS, safetensors
    from trimtab.steering.formats.stored import VECTOR_FILE

    if format_ not in WRITERS:
        raise typer.BadParameter(f"must be one of {', '.join(WRITERS)}", param_hint="--format")
    if out.exists():
        raise VectorError(f"{out} exists already; name another file, or remove it first")
    read_card(vector)
    stored = safetensors.read(vector / VECTOR_FILE)
    if not out.parent.is_dir():
        raise VectorError(f"{out.parent} is no folder; make it first, or name another --out")
    WRITERS[format_](stored, out)
    typer.echo(f"{out}: {stored.hook_point}, strength 1 is multiplier {stored.multiplier:.4g}")


@app.command(epilog=example("trimtab report runs/demo/vector"))
def report(
    vector: Annotated[Path, typer.Argument(help="An exported vector's folder.")],
) -> None:
    """Draw the report of an exported vector again."""
    from trimtab.selector.report import render_report

    typer.echo(str(render_report(vector)))


def _fail(message: str, code: int) -> NoReturn:
    print(f"trimtab: {message}", file=sys.stderr)
    sys.exit(code)


def _is_vector(path: Path) -> bool:
    from trimtab.selector.folder import CARD

    return (path / CARD).exists()


def _columns(mappings: list[str]) -> dict[str, str] | None:
    pairs = [mapping.partition("=") for mapping in mappings]
    wrong = [mapping for mapping, (_, equals, _) in zip(mappings, pairs, strict=True) if not equals]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not FIELD=COLUMN", param_hint="--column")
    return {field: column for field, _, column in pairs} or None


def _print_card(card: Mapping[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        _print_json(card)
        return
    from trimtab.model.features.card import feature_table
    from trimtab.selector.described import labelled_features
    from trimtab.selector.report import found, reply_to_show

    table = Table("vector", "held-out effect, nats per token", "behaviour rate")
    rows = {"minimal": card["held_out"], **card["controls"]}
    for name, row in rows.items():
        table.add_row(
            name.replace("_", " "), _interval(row["effect"]), _interval(row["behavior_rate"])
        )
    Console().print(table)
    typer.echo(found(card))
    labelled = labelled_features(folder).head(SHOWN_FEATURES)
    if labelled.height:
        Console().print(feature_table(labelled.to_dicts()))
    shown = reply_to_show(folder) if (folder / "replies.parquet").exists() else None
    if shown:
        typer.echo(f"\n{shown['question']}\n  unsteered: {shown['unsteered']}")
        typer.echo(f"  steered:   {shown['steered']}")
    typer.echo(f"\nreport: {folder / 'report.html'}")


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "–"
    if estimate["low"] is None:
        return f"{estimate['value']:.2f}"
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def _print_rows(rows: pl.DataFrame, as_json: bool, as_csv: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows.to_dicts(), ensure_ascii=False, default=str))
    elif as_csv:
        typer.echo(rows.write_csv(), nl=False)
    else:
        from trimtab.model.features.descriptions import visible

        table = Table()
        for column in rows.columns:
            table.add_column(Text(visible(column)))
        for row in rows.iter_rows():
            table.add_row(*(Text(visible(str(_round(value)))) for value in row))
        Console().print(table)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def _plain(quality: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(quality)


def _round(value: Any) -> Any:
    if isinstance(value, list):
        return " · ".join(str(_round(part)).strip() for part in value)
    return round(value, 4) if isinstance(value, float) else value
