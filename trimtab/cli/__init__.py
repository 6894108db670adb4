"""The command line: one command, one call. Whatever is heavy is imported inside the command."""

from importlib.metadata import version
from typing import Annotated

import typer

from trimtab.cli import (
    attribute,
    build,
    demo,
    explain,
    features,
    labels,
    query,
    select,
    tokens,
    vectors,
)
from trimtab.cli.group import Commands

app = typer.Typer(
    cls=Commands,
    help="Find the minimal steering vector of a language-model behaviour, "
    "and account for every part of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(version("trimtab"))
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


THEMES = (demo, build, features, tokens, query, attribute, select, vectors, explain)  # in the help
for theme in THEMES:
    app.add_typer(theme.app)
app.add_typer(labels.app, name="labels")
