"""The command line: one command, one call. Whatever is heavy is imported inside the command."""

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

THEMES = (demo, build, features, tokens, query, attribute, select, vectors, explain)  # in the help
for theme in THEMES:
    app.add_typer(theme.app)
app.add_typer(labels.app, name="labels")
