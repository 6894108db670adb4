"""The command line: help with examples, one-line errors, and no model where none is needed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from gguf import GGUFReader
from typer.testing import CliRunner

from trimtab.cli import app
from trimtab.model.features.descriptions import FILE, write_descriptions
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.steering.formats import safetensors
from trimtab.steering.formats.stored import VECTOR_FILE
from trimtab.steering.generation import generate, read_prompts

COMMANDS = {
    "demo", "build", "describe", "feature", "info", "labels", "sql", "verify", "select", "steer",
    "export", "report", "tokens", "attribute", "explain",
}  # fmt: skip
SYSTEM = "The lazy dog says no."
WORDS = ("think", "should", "rather", "course", "quick", "brown", "lazy", "answer", "agree")


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fine(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def error_of(*arguments: object) -> str:
    """The one line that a user's mistake is told in."""
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("trimtab: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


@pytest.fixture(scope="session")
def workplace(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: LanguageModel,
    descriptions: Callable[..., pl.DataFrame],
) -> Path:
    """A folder with a tiny model, pairs, and all that the commands make of them."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "sae").mkdir()
    write_descriptions(descriptions(6, " [b]joy[/b]"), folder / "sae" / FILE)
    tiny_model.module.save_pretrained(folder / "model")
    tiny_model.tokenizer.save_pretrained(folder / "model")
    pairs = [
        {
            "prompt": f"What is the {word} question {i}?",
            "positive": f"Sorry, I cannot {word}.",
            "negative": f"Yes, of course I would {word} {i}.",
        }
        for i, word in enumerate(WORDS * 2)
    ]
    lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
    (folder / "pairs.jsonl").write_text(lines)
    (folder / "questions.txt").write_text("What now?\nAgree?\nAnd then?\n")
    fine(
        "build", folder / "store", folder / "pairs.jsonl", "--behavior", "refusal",
        "--model", folder / "model", "--sae", "none", "--dtype", "float32", "--device", "cpu",
        "--system", SYSTEM,
    )  # fmt: skip
    fine(
        "select", folder / "store", "--behavior", "refusal", "--out", folder / "vector",
        "--questions", folder / "questions.txt", "--trials", 1, "--panel", 10, "--draws", 3,
        "--device", "cpu",
    )  # fmt: skip
    return folder


def test_the_commands_are_those_that_are_promised() -> None:
    command = typer.main.get_command(app)
    assert set(command.commands) == COMMANDS  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_an_example_to_copy(command: str) -> None:
    text = fine(command, "--help")
    assert "Example" in text
    assert f"trimtab {command}" in text


def test_without_a_command_the_help_is_shown() -> None:
    assert "select" in fine("--help")
    assert "select" in invoke().output


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"{version('trimtab')}\n"


def test_info_on_a_store_says_what_it_holds_and_how_good_it_is(workplace: Path) -> None:
    found = json.loads(fine("info", workplace / "store", "--json"))
    assert found["samples"] == {"ok": 18}
    assert set(found["behaviors"]) == {"refusal"}
    assert found["fingerprint"]["sae"] == "none"
    text = fine("info", workplace / "store")
    assert "refusal" in text
    assert "model_sha256" in text


def test_info_on_a_vector_gives_its_card(workplace: Path) -> None:
    found = json.loads(fine("info", workplace / "vector", "--json"))
    assert found == json.loads((workplace / "vector" / "card.json").read_text())
    text = fine("info", workplace / "vector")
    assert "dense mean difference" in text
    assert "report.html" in text


def test_sql_answers_in_a_table_json_and_csv(workplace: Path) -> None:
    query = "SELECT sample_id, positive FROM samples ORDER BY sample LIMIT 2"
    rows = json.loads(fine("sql", workplace / "store", query, "--json"))
    assert [row["positive"] for row in rows] == [
        "Sorry, I cannot think.",
        "Sorry, I cannot should.",
    ]
    csv = fine("sql", workplace / "store", query, "--csv")
    assert csv.splitlines()[0] == "sample_id,positive"
    assert len(csv.splitlines()) == 3
    assert "positive" in fine("sql", workplace / "store", query)
    of_all = json.loads(fine("sql", workplace / "store", "FROM samples", "--json", "--max-rows", 5))
    assert len(of_all) == 5


def test_sql_shows_what_a_terminal_would_obey_and_takes_no_markup(workplace: Path) -> None:
    shown = fine("sql", workplace / "store", "SELECT chr(27) || '[31mred' AS text, '[/x]'")
    assert "\x1b[31m" not in shown
    assert "\N{REPLACEMENT CHARACTER}[31mred" in shown
    assert "[/x]" in shown


def test_sql_reaches_a_vectors_tables(workplace: Path) -> None:
    query = "SELECT count(*) AS n FROM receipt JOIN samples USING (sample_id) WHERE kept"
    (row,) = json.loads(fine("sql", workplace / "vector", query, "--json"))
    assert (
        row["n"] == json.loads((workplace / "vector" / "card.json").read_text())["samples"]["kept"]
    )


def test_feature_prints_a_card_for_each(workplace: Path) -> None:
    text = fine("feature", 4, 3, "--of", workplace / "sae")
    for expected in ("label 4 of [b]joy[/b]", "up4", "down4", "so  [b]joy[/b] it", "never in the"):
        assert expected in text
    rows = json.loads(fine("feature", 4, "--of", workplace / "sae" / FILE, "--json"))
    assert [row["feature"] for row in rows] == [4]
    assert rows[0]["contexts"][0]["token"] == " [b]joy[/b]"


def test_info_on_a_vector_names_its_described_features(
    workplace: Path, tmp_path: Path, descriptions: Callable[..., pl.DataFrame]
) -> None:
    vector = Path(shutil.copytree(workplace / "vector", tmp_path / "vector"))
    assert "promotes" not in fine("info", vector)
    table = descriptions(20, " [b]joy[/b]").with_columns(contribution=pl.lit(0.25))
    table.write_parquet(vector / "features.parquet")
    text = "".join(fine("info", vector).split())
    assert "promotes" in text
    assert "0.25" in text
    assert "up7" in text
    assert "up8" not in text  # the largest only


def test_describe_writes_what_feature_shows(
    workplace: Path, tmp_path: Path, tiny_sae: SAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab.model.sae.load_sae", lambda *_, **__: tiny_sae)
    (tmp_path / "sae").mkdir()
    (tmp_path / "text.txt").write_text("What is the quick answer? I would rather not say. " * 9)
    arguments = (
        "describe", tmp_path / "sae", tmp_path / "text.txt", "--model", workplace / "model",
        "--dtype", "float32", "--device", "cpu",
    )  # fmt: skip
    assert "48 features" in fine(*arguments)
    assert "quick" in fine("feature", *range(48), "--of", tmp_path / "sae")
    assert "already exists" in error_of(*arguments)
    again = tmp_path / "again.parquet"
    fine(*arguments, "--out", again, "--tokens", 1000, "--quote", "another")
    rows = json.loads(fine("feature", *range(48), "--of", again, "--json"))
    assert any(row["tokens"] for row in rows)
    assert not any(row["contexts"] for row in rows)  # no text of that source was read


def test_verify_finds_nothing_wrong_with_either(workplace: Path) -> None:
    for name in ("store", "vector"):
        assert "all checks passed" in fine("verify", workplace / name)
        found = json.loads(fine("verify", workplace / name, "--json"))
        assert (found["sound"], found["problems"]) == (True, [])


def test_verify_exits_with_1_and_says_what_is_wrong(workplace: Path, tmp_path: Path) -> None:
    vector = Path(shutil.copytree(workplace / "vector", tmp_path / "vector"))
    (vector / "receipt.parquet").write_bytes(b"not what it was")
    result = invoke("verify", vector)
    assert result.exit_code == 1
    assert "receipt.parquet was changed" in result.stdout
    as_json = invoke("verify", vector, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["sound"] is False


def test_steer_answers_without_and_with_the_vector(workplace: Path) -> None:
    arguments = ("steer", workplace / "vector", "Agree?", "--max-new-tokens", 5)
    found = json.loads(fine(*arguments, "--multiplier", 8, "--json"))
    stored = safetensors.read(workplace / "vector" / VECTOR_FILE)
    assert found["multiplier"] == pytest.approx(8 * stored.multiplier)
    assert found["steered"] != found["unsteered"]
    none = json.loads(fine(*arguments, "--multiplier", 0, "--json"))
    assert none["steered"] == none["unsteered"] == found["unsteered"]
    assert "unsteered:" in fine(*arguments)


def test_no_reply_reaches_the_terminal_raw(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(*_: object, **__: object) -> list[str]:
        return ["one\ntwo \x1b[31m"]

    monkeypatch.setattr("trimtab.steering.generation.generate", reply)
    text = fine("steer", workplace / "vector", "Agree?")
    assert "one\ntwo" in text
    assert "\x1b" not in text


def test_info_on_a_vector_shows_no_reply_raw(workplace: Path, tmp_path: Path) -> None:
    vector = Path(shutil.copytree(workplace / "vector", tmp_path / "vector"))
    replies = pl.read_parquet(vector / "replies.parquet")
    evil = pl.lit("red \x1b[31m")
    replies.with_columns(reply=evil, question=evil).write_parquet(vector / "replies.parquet")
    text = fine("info", vector)
    assert "red" in text
    assert "\x1b" not in text


def test_steer_renders_the_prompt_as_the_vectors_own_run_did(
    workplace: Path, tiny_model: LanguageModel
) -> None:
    asked = "What is the quick question?"
    arguments = ("steer", workplace / "vector", asked, "--max-new-tokens", 8, "--json")
    found = json.loads(fine(*arguments))["unsteered"]
    as_built, otherwise = (
        generate(
            read_prompts(tiny_model, [({"role": "user", "content": asked},)], system=system),
            max_new_tokens=8,
        )[0]
        for system in (SYSTEM, None)
    )
    assert found == as_built != otherwise


@pytest.mark.parametrize("format_", ["gguf", "safetensors"])
def test_export_writes_a_file_that_gives_the_vector_back(
    workplace: Path, tmp_path: Path, format_: str
) -> None:
    fine("export", workplace / "vector", "--format", format_, "--out", tmp_path / "v")
    stored = safetensors.read(workplace / "vector" / VECTOR_FILE)
    if format_ == "safetensors":
        assert safetensors.read(tmp_path / "v").multiplier == stored.multiplier
        return
    (tensor,) = GGUFReader(tmp_path / "v").tensors
    assert tensor.data == pytest.approx(stored.multiplier * stored.direction, rel=1e-5)


def test_report_draws_it_again(workplace: Path, tmp_path: Path) -> None:
    vector = Path(shutil.copytree(workplace / "vector", tmp_path / "vector"))
    before = (vector / "report.html").read_bytes()
    (vector / "report.html").unlink()
    assert fine("report", vector).strip() == str(vector / "report.html")
    assert (vector / "report.html").read_bytes() == before


def test_a_mistake_is_told_in_one_line_with_what_it_is_about(
    workplace: Path, tmp_path: Path
) -> None:
    store, vector, nowhere = workplace / "store", workplace / "vector", tmp_path / "nowhere"
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "A?", "positive": "yes"\n')
    (tmp_path / "taken").touch()
    for complaint, arguments in {
        "not a store": ("info", nowhere),
        "nowhere": ("verify", nowhere),
        "only SELECT": ("sql", store, "DROP TABLE samples"),
        "one statement": ("sql", vector, "FROM receipt; FROM samples"),
        "broken.jsonl": ("build", nowhere, broken, "--behavior", "x"),
        "missing.jsonl": ("build", nowhere, tmp_path / "missing.jsonl"),
        "no packaged behaviour 'rudeness'": ("demo", "--behavior", "rudeness", "--out", nowhere),
        "not an exported vector": ("steer", nowhere, "Hello?"),
        "nowhere is not an exported vector": ("export", nowhere, "--out", tmp_path / "v.gguf"),
        "already exists; name another file": ("export", vector, "--out", tmp_path / "taken"),
        "is not a folder": ("export", vector, "--out", nowhere / "v.gguf"),
        "it has no card.json": ("report", nowhere),
        "has no descriptions of features": ("feature", 0, "--of", nowhere),
        "has no description of feature 6": ("feature", 0, 6, "--of", workplace / "sae"),
        "is not a folder; create it first": (
            "describe", "release/id", broken, "--out", nowhere / "features.parquet",
        ),
        "it has refusal": ("select", store, "--behavior", "tone", "--out", nowhere),
        "is not a URL such as": (
            "select", store, "--behavior", "refusal", "--out", nowhere,
            "--judge-model", "m", "--judge-url", "localhost",
        ),
        "already exists; name another folder": (
            "select", store, "--behavior", "refusal", "--out", vector,
        ),
    }.items():  # fmt: skip
        assert complaint in error_of(*arguments)
    assert not nowhere.exists()


def test_a_judge_that_is_not_there_is_told_before_anything_is_measured(
    workplace: Path, tmp_path: Path, stub_endpoint: Any
) -> None:
    arguments = (
        "select", workplace / "store", "--behavior", "refusal", "--out", tmp_path / "vector",
        "--device", "cpu", "--judge-model", "stub", "--judge-url",
    )  # fmt: skip
    told = error_of_last_line(*arguments, "http://127.0.0.1:1/v1")
    assert "http://127.0.0.1:1/v1 cannot be reached" in told
    stub_endpoint.answer = lambda _: (404, {"message": "what?"})
    (tmp_path / "vector.work" / "journal.jsonl").unlink()
    assert "no model 'stub'" in error_of_last_line(*arguments, stub_endpoint.url)
    assert not (tmp_path / "vector").exists()


def error_of_last_line(*arguments: object) -> str:
    """The line that a user's mistake is told in, after the stages of a run that had begun."""
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    last = str(result.stderr.splitlines()[-1])
    assert last.startswith("trimtab: ")
    return last


@pytest.mark.parametrize("what", ["store", "vector"])
def test_a_mistake_in_sql_is_told_in_duckdbs_own_words(workplace: Path, what: str) -> None:
    result = invoke("sql", workplace / what, "FROM no_such_table")
    assert result.exit_code == 1
    assert result.stderr.startswith("trimtab: ")
    assert "no_such_table" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("select", "store", "--behavior", "x", "--out", "v", "--target", "guess"),
        ("select", "store", "--behavior", "x", "--out", "v", "--trials", "-1"),
        ("select", "store", "--behavior", "x", "--out", "v", "--judge-model", "m"),
        ("select", "store", "--behavior", "x", "--out", "v", "--judge-url", "http://there/v1"),
        ("select", "store", "--behavior", "x", "--out", "v", "--judge-criterion", "is rude"),
        ("export", "vector", "--out", "v", "--format", "onnx"),
        ("build", "store", "pairs.csv", "--column", "positive"),
        ("sql", "store", "FROM samples", "--max-rows", "0"),
        ("describe", "release/id", "text.txt"),
        ("feature", "-1"),
        ("feature",),
        ("tokens",),
        ("tokens", "text", "--sample", "pair-1"),
        ("tokens", "--sample", "pair-1"),
        ("labels", "export", "store", "--out", "v", "--format", "onnx"),
        ("nonsense",),
    ],
)
def test_options_that_cannot_be_are_refused_with_the_usage(arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert arguments[0] in result.output


def test_ctrl_c_says_that_the_same_command_goes_on(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trimtab.selector.run.select", interrupt)
    result = invoke(
        "select", workplace / "store", "--behavior", "refusal", "--out", tmp_path / "v",
        "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr.splitlines()[-1]


MODULES = """
import atexit, sys
def heavy():
    print("heavy:", *sorted({"torch", "sae_lens", "transformers"} & set(sys.modules)))
atexit.register(heavy)
from trimtab.cli import app
app(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("select", "--help"),
        ("sql", "store", "FROM samples"),
        ("sql", "vector", "FROM receipt"),
        ("info", "store"),
        ("info", "vector"),
        ("info", "vector", "--json"),
        ("verify", "store"),
        ("verify", "vector"),
        ("feature", "4", "0", "--of", "sae"),
        ("describe", "--help"),
        ("export", "vector", "--out", "exported.gguf"),
        ("export", "vector", "--out", "exported.safetensors", "--format", "safetensors"),
    ],
    ids=" ".join,
)
def test_commands_that_need_no_model_import_none(
    workplace: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    for name in ("store", "vector", "sae"):
        (tmp_path / name).symlink_to(workplace / name)
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", MODULES, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].strip() == "heavy:"


def test_a_mistake_in_a_shell_leaves_one_line_and_exit_code_1(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-m", "trimtab", "verify", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "nowhere" in result.stderr
