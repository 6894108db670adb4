"""The documents' commands exist, take the options they show, and their queries run."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import trimtab
from trimtab.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def shell_lines() -> list[str]:
    joined = "\n".join(body for kind, body in BLOCKS if kind == "sh").replace("\\\n", " ")
    lines = [line.removeprefix(".venv/bin/") for line in joined.splitlines()]
    return [line for line in lines if line.startswith("trimtab ")]


def queries() -> list[str]:
    found = [shlex.split(line) for line in shell_lines()]
    return [words[3] for words in found if words[1] == "sql" and "store" in words[2]]


@pytest.mark.parametrize("line", shell_lines())
def test_every_command_in_the_readme_parses(line: str) -> None:
    words = shlex.split(line, comments=True)
    command = typer.main.get_command(app)
    name, *arguments = words[1:]
    subcommand = command.commands[name]  # type: ignore[attr-defined]
    subcommand.make_context(name, arguments, resilient_parsing=False)


def test_the_readme_shows_every_command() -> None:
    command = typer.main.get_command(app)
    shown = {shlex.split(line, comments=True)[1] for line in shell_lines()}
    assert shown == set(command.commands)  # type: ignore[attr-defined]


def test_the_readmes_python_compiles_and_uses_names_that_exist() -> None:
    bodies = [body for kind, body in BLOCKS if kind == "python"]
    assert bodies
    for body in bodies:
        compile(body, "README.md", "exec")
        for name in re.findall(r"trimtab\.(\w+)", body):
            assert name in dir(trimtab), name


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= shown <= targets


def test_make_experiments_runs_every_study_that_has_a_small_form() -> None:
    made = re.findall(r"^STUDIES := (.*\\\n.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    mains = (ROOT / "experiments").glob("*/__main__.py")
    small = {main.parent.name for main in mains if "experiments.command" in main.read_text()}
    assert set(re.findall(r"\w+", made[0])) - {"if", "DATA"} == small


@pytest.mark.parametrize("name", sorted(trimtab.__all__))
def test_every_public_name_can_be_imported_and_is_documented(name: str) -> None:
    assert getattr(trimtab, name).__doc__


def test_an_unknown_command_is_one_line_of_usage_and_exit_code_2() -> None:
    outcome = CliRunner().invoke(app, ["fly"])
    assert outcome.exit_code == 2
    assert "No such command" in outcome.output
