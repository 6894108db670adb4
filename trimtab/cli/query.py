"""What a store or an exported vector holds, and whether it is sound."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer

from trimtab.cli.explain import print_explanation
from trimtab.cli.group import example
from trimtab.cli.options import DeviceOption, JsonOption
from trimtab.cli.printing import (
    check_writable,
    print_card,
    print_json,
    print_rows,
    rounded,
    write_rows,
)

if TYPE_CHECKING:
    import duckdb

SHOWN_ROWS = 1000

app = typer.Typer()


@app.command(epilog=example("trimtab info runs/demo/store", "trimtab info runs/demo/vector --json"))
def info(
    path: Annotated[Path, typer.Argument(help="A store, or an exported vector's folder.")],
    json_: JsonOption = False,
) -> None:
    """Say what a store or an exported vector holds."""
    if _is_vector(path):
        from trimtab.selector.exported.folder import read_card, read_explanation, tables

        if (explained := read_explanation(path)) is not None:
            features = tables(path).get("features")
            found = None if features is None else pl.read_parquet(features)
            print_explanation(explained, found, path, json_)
            return
        print_card(read_card(path), path, json_)
        return
    from trimtab.model.features.descriptions import visible
    from trimtab.pairs import describe
    from trimtab.store import open_store
    from trimtab.store.reading.inventory import inventory

    opened = open_store(path)
    held = inventory(opened)
    behaviors = {name: describe(opened.samples(name)) for name in opened.behaviors()}
    if json_:
        print_json(
            {
                "path": str(path),
                **held,
                "content_hash": opened.content_hash,
                "fingerprint": opened.fingerprint,
                "samples": opened.status_counts(),
                "behaviors": {name: _plain(quality) for name, quality in behaviors.items()},
            }
        )
        return
    typer.echo(f"{path}: {opened.status_counts()}")
    per_nnz = "" if held["bytes_per_nnz"] is None else f", {held['bytes_per_nnz']:.2f} bytes each"
    typer.echo(
        f"{held['n_tokens']:,} tokens, {held['nnz']:,} activations{per_nnz};"
        f" {held['bytes']:,} bytes in {held['shards']} shards and the catalog"
    )
    for name, quality in behaviors.items():
        typer.echo(f"\n{visible(name)}")
        for field, value in _plain(quality).items():
            typer.echo(visible(f"  {field.replace('_', ' ')}: {rounded(value)}"))
    typer.echo("\nbuilt with")
    for field, value in opened.fingerprint.items():
        typer.echo(visible(f"  {field}: {value}"))


@app.command(
    epilog=example(
        'trimtab sql runs/demo/store "SELECT * FROM contrast ORDER BY abs(cohens_d) DESC LIMIT 5"',
        'trimtab sql runs/demo/vector "SELECT label, contribution, positive FROM contributions"',
        'trimtab sql runs/demo/store "FROM activations WHERE feature = 9" --out feature-9.parquet',
    )
)
def sql(
    path: Annotated[Path, typer.Argument(help="A store, or an exported vector's folder.")],
    query: Annotated[str, typer.Argument(help="One SELECT; `SHOW TABLES` says what there is.")],
    json_: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write a file instead: .csv, .json, .jsonl or .parquet."),
    ] = None,
    max_rows: Annotated[
        int | None,
        typer.Option(min=1, help="Row limit; by default 1000 in a printed table, else none."),
    ] = None,
) -> None:
    """Query a store, or an exported vector's tables, in a read-only sandbox."""
    if out is not None:
        check_writable(out)
    from trimtab.store.reading.limits import limited_memory, limited_time
    from trimtab.store.reading.sandbox import query as run_query

    as_table = not (json_ or csv or out)
    most = max_rows or (SHOWN_ROWS if as_table else None)
    with _opened(path) as connection, limited_memory(), limited_time():
        # One row more says whether there are more; to count them can take for ever.
        found = run_query(connection, query, max_rows=most and most + 1)
    rows = found[:most]
    if out is not None:
        write_rows({out: rows})
        typer.echo(f"{out}: {rows.height} rows")
        return
    print_rows(rows, json_, csv)
    if as_table and rows.height < found.height:
        typer.echo(
            f"only the first {rows.height:,} rows are shown:"
            " --max-rows shows more, --out writes all of them to a file"
        )


@app.command(
    epilog=example(
        "trimtab verify runs/demo/store",
        "trimtab verify runs/demo/store --recompute 20",
        "trimtab verify runs/demo/vector",
    )
)
def verify(
    path: Annotated[Path, typer.Argument(help="A store, or an exported vector's folder.")],
    recompute: Annotated[
        int, typer.Option(min=0, help="For stores: run this many random samples again and compare.")
    ] = 0,
    model: Annotated[
        str | None,
        typer.Option(help="Where the store's model lies now; by default where it was."),
    ] = None,
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(help="Seed for drawing the samples to run again.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Verify checksums, and that a store's catalog or a vector's receipt is consistent.

    Exits with status 1 if something is wrong.
    """
    again: dict[str, Any] = {}
    if _is_vector(path):
        if recompute:
            raise typer.BadParameter("is for stores", param_hint="--recompute")
        from trimtab.selector.exported.verify import problems

        found = problems(path)
    else:
        from trimtab.store.store import open_store, verify_store

        found = verify_store(path)
        if recompute and not found:
            from trimtab.model.sae import load_sae
            from trimtab.store.checks.recompute import recompute as run_again
            from trimtab.store.origin import load_model_of

            store = open_store(path)
            fields = store.fingerprint
            loaded = load_model_of(fields, model, dtype=fields["model_dtype"], device=device)
            sae = load_sae(fields["sae"], loaded)
            again = run_again(store, recompute, loaded, sae, seed=seed)._asdict()
            found = again.pop("problems")
    if json_:
        recomputed = {"recomputed": again} if again else {}
        print_json({"path": str(path), "sound": not found, "problems": found, **recomputed})
    else:
        from trimtab.model.features.descriptions import visible

        typer.echo("\n".join(map(visible, found)) if found else f"{path}: all checks passed")
        if again:
            typer.echo(
                f"{again['n_samples']} samples run again; largest relative difference:"
                f" {again['residual']:.2g} in residuals, {again['activations']:.2g} in activations"
            )
    if found:
        raise typer.Exit(1)


@contextmanager
def _opened(path: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    if _is_vector(path):
        from trimtab.selector.exported.folder import tables as files
        from trimtab.selector.exported.folder import views
        from trimtab.store.reading.sandbox import tables

        with closing(tables(files(path), views(path))) as connection:
            yield connection
    else:
        from trimtab.store import open_store

        store = open_store(path)  # which closes the connection when it is gone
        yield store.catalog


def _is_vector(path: Path) -> bool:
    from trimtab.selector.exported.folder import CARD

    return (path / CARD).exists()


def _plain(quality: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(quality)
