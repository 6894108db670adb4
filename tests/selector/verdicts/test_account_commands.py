"""The commands attribute, explain and select --suggest, from a shell's point of view."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from trimtab.cli import app
from trimtab.cli.explain import print_explanation
from trimtab.cli.printing import WRITERS
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.steering.formats import StoredVector, gguf, safetensors
from trimtab.steering.formats.stored import VECTOR_FILE

WORDS = ("think", "should", "rather", "course", "quick", "brown", "lazy", "answer")
POINT = "blocks.1.hook_resid_post"
HOSTILE = "[bold]What[/x] \x1b[31m now?"


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fine(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def error_of(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("trimtab: ")
    return str(result.stderr)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel) -> Path:
    folder = tmp_path_factory.mktemp("accounts")
    tiny_model.module.save_pretrained(folder / "model")
    tiny_model.tokenizer.save_pretrained(folder / "model")
    pairs = [
        {
            "prompt": f"What is the {word} question {i}?" if i else HOSTILE,
            "positive": f"Sorry, I cannot {word}.",
            "negative": f"Yes, of course I would {word} {i}.",
        }
        for i, word in enumerate(WORDS * 5)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    pool = [{**pairs[0], "prompt": HOSTILE + "!"}, pairs[1], {**pairs[2], "prompt": "And then?"}]
    (folder / "pool.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pool))
    (folder / "prompts.txt").write_text("What now?\n")
    fine(
        "build", folder / "store", folder / "pairs.jsonl", "--behavior", "refusal",
        "--model", folder / "model", "--sae", "none", "--hook-point", POINT,
        "--dtype", "float32", "--device", "cpu",
    )  # fmt: skip
    direction = np.random.default_rng(0).normal(size=16).astype(np.float32)
    np.save(folder / "v.npy", direction)
    gguf.write(StoredVector(direction, HookPoint(1, "hook_resid_post"), "all"), folder / "v.gguf")
    return folder


def test_attribute_prints_pairs_with_their_texts_and_writes_them(
    workplace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pairs.parquet"
    text = fine("attribute", workplace / "store", "refusal", "--device", "cpu", "--out", out)
    assert "Of 40 samples" in text
    assert "by chance about 1 would seem to help" in text
    assert "\x1b[31m" not in text
    table = pl.read_parquet(out)
    assert table.height == 40
    assert {"sample_id", "score", "low", "high", "verdict", "prompt"} <= set(table.columns)
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.parquet"]


def test_attribute_answers_scripts_and_audits(workplace: Path) -> None:
    found = json.loads(
        fine(
            "attribute", workplace / "store", "refusal", "--device", "cpu", "--json", "--audit",
            "--estimator", "jackknife",
        )
    )  # fmt: skip
    assert len(found["table"]) == 40
    assert {"scored", "judged", "mended"} <= set(found["wrong_way"])
    assert all(half["effect"]["value"] is not None for half in found["halves"])


def test_explain_reads_files_of_other_programs(workplace: Path, tmp_path: Path) -> None:
    model = ("--model", workplace / "model", "--sae", "none", "--device", "cpu")
    found = json.loads(
        fine("explain", workplace / "v.npy", "--hook-point", POINT, *model, "--json")
    )
    assert (found["kind"], found["hook_point"], found["positions"]) == (
        "explanation", POINT, "prompt_end",
    )  # fmt: skip
    assert "effects" not in found
    text = fine("explain", workplace / "v.gguf", *model)
    assert "nats of damage per token" in text


def test_explain_measures_on_a_store_and_writes_what_info_and_sql_show(
    workplace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "explained"
    text = fine(
        "explain", workplace / "v.gguf", "--store", workplace / "store", "--sae", "none",
        "--positions", "prompt_end", "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert "dense vector of the pairs" in text
    assert str(out / "report.html") in text
    assert fine("info", out).strip() == text[: text.index("\nreport:")].strip()
    assert json.loads(fine("info", out, "--json"))["kind"] == "explanation"
    rows = json.loads(fine("sql", out, "SELECT DISTINCT vector FROM replies", "--json"))
    assert {"vector", "its_negative", "dense_mean_difference"} <= {row["vector"] for row in rows}
    assert "not the vector" in error_of("steer", out, "Hello?")
    assert "already exists" in error_of("explain", workplace / "v.gguf", "--out", out)


def test_suggest_ranks_a_pool_and_keeps_what_it_learnt_from(
    workplace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ranked.csv"
    arguments = (
        "select", workplace / "store", "--behavior", "refusal", "--suggest",
        workplace / "pool.jsonl", "--device", "cpu",
    )  # fmt: skip
    text = fine(*arguments, "--out", out)
    assert "rank correlation with measured usefulness" in text
    assert "\x1b[31m" not in text
    assert pl.read_csv(out)["rank"].to_list() == [1, 2, 3]
    training = pl.read_parquet(tmp_path / "ranked.training.parquet")
    assert training.columns == ["sample_id", "group", "usefulness", "predicted"]
    assert {file.name for file in tmp_path.iterdir()} == {"ranked.csv", "ranked.training.parquet"}
    found = json.loads(fine(*arguments, "--json"))
    assert [row["rank"] for row in found["prospects"]] == [1, 2, 3]
    assert invoke(*arguments, "--out", out).exit_code == 2  # nothing is overwritten


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("attribute", "store", "refusal"), {"out.csv"}),
        (
            ("select", "store", "--behavior", "refusal", "--suggest", "pool.jsonl"),
            {"out.csv", "out.training.parquet"},
        ),
    ],
    ids=["attribute", "suggest"],
)
def test_a_run_interrupted_while_it_writes_goes_on(
    workplace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    names: set[str],
) -> None:
    monkeypatch.chdir(workplace)
    command = (*arguments, "--device", "cpu", "--out", tmp_path / "out.csv")

    def cut(rows: pl.DataFrame, file: Path) -> None:
        file.write_text("half a f")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setitem(WRITERS, ".csv", cut)
        assert invoke(*command).exit_code != 0
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv.work"]
    fine(*command)
    assert {file.name for file in tmp_path.iterdir()} == names


@pytest.mark.parametrize(
    ("complaint", "arguments"),
    [
        ("without an SAE", ("attribute", "store", "refusal", "--unit", "features")),
        ("no estimator 'tarot'", ("attribute", "store", "refusal", "--estimator", "tarot")),
        ("it has refusal", ("attribute", "store", "tone")),
        ("does not say where", ("explain", "v.npy")),
        ("is not supported", ("explain", "v.npy", "--hook-point", "layer 3")),
        ("says that it acts at", ("explain", "v.gguf", "--hook-point", "blocks.2.hook_resid_post")),
        ("unknown positions", ("explain", "v.gguf", "--positions", "last")),
        ("no such file", ("explain", "v.gguf", "--pairs", "nowhere.jsonl")),
        ("is not a store", ("explain", "v.gguf", "--store", "model")),
        (
            "without an SAE",
            ("select", "store", "--behavior", "refusal", "--suggest", "prompts.txt"),
        ),
        ("no such file", ("select", "store", "--behavior", "refusal", "--suggest", "x.jsonl")),
    ],
)
def test_a_mistake_is_told_in_one_line(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(workplace)
    assert complaint in error_of(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("attribute", "store", "refusal", "--unit", "layers"),
        ("attribute", "store", "refusal", "--out", "pairs.docx"),
        ("explain", "v.npy", "--store", "store", "--pairs", "pairs.jsonl"),
        ("explain", "v.npy", "--store", "store", "--model", "model"),
        ("explain", "v.npy", "--questions", "prompts.txt"),
        ("explain", "v.npy", "--behavior", "refusal"),
        ("explain", "v.npy", "--raw"),
        ("explain", "vector", "--pairs", "pairs.jsonl", "--raw"),
        ("explain", "v.npy", "--budget", "0"),
        ("attribute", "store", "refusal", "--budget", "-1"),
        ("attribute", "store", "refusal", "--budget", "nan"),
        ("select", "store", "--behavior", "refusal"),
        ("select", "store", "--behavior", "refusal", "--suggest", "pool.jsonl", "--out", "x.docx"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(workplace)
    Path("vector").mkdir(exist_ok=True)
    Path("vector/card.json").write_text("{}")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.output


@pytest.mark.parametrize(
    "option",
    [
        ("--questions", "prompts.txt"), ("--target", "dataset"), ("--tolerance", "0.95"),
        ("--judge-model", "m"), ("--judge-url", "http://there/v1"), ("--judge-criterion", "rude"),
        ("--trials", "24"), ("--panel", "24"), ("--draws", "20"),
    ],
    ids=lambda option: option[0],
)  # fmt: skip
def test_what_has_no_part_in_suggesting_is_refused_by_its_name(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    monkeypatch.chdir(workplace)
    arguments = ("select", "store", "--behavior", "refusal", "--suggest", "pool.jsonl")
    result = invoke(*arguments, *option)
    assert result.exit_code == 2
    assert f"{option[0]}: does nothing with --suggest" in " ".join(result.output.split())


@pytest.mark.parametrize("card", [{}, {"kind": "explanation"}, {"settings": 3, "fingerprint": {}}])
def test_a_card_that_lacks_something_is_told_in_one_line(
    workplace: Path, tmp_path: Path, card: dict[str, Any]
) -> None:
    (tmp_path / "card.json").write_text(json.dumps(card))
    stored = StoredVector(np.ones(16, np.float32), HookPoint(1, "hook_resid_post"), "all")
    safetensors.write(stored, tmp_path / VECTOR_FILE)
    assert "card.json lacks" in error_of("info", tmp_path)
    if card.get("kind") is None:
        assert "card.json lacks" in error_of("steer", tmp_path, "Hello?")
        assert "card.json lacks" in error_of("explain", tmp_path)


def test_no_mistake_is_told_in_what_a_terminal_obeys(tmp_path: Path) -> None:
    assert "\x1b" not in error_of("info", tmp_path / "nowhere \x1b[31m")


def test_other_peoples_texts_reach_no_terminal_raw(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[31mred"
    card = {
        "sae": "none", "decomposition": None, "multiplier": 2.0, "behavior": evil,
        "damage": {"budget": 0.1, "at_own_strength": {"multiplier": 1.0, "kl_mean": 0.02}},
        "judge": {"reliable": True}, "held_out": {"n_questions": 3},
        "effects": {
            name: {key: {"value": 0.5, "low": 0.1, "high": 0.9}
                   for key in ("effect", "effect_beyond", "behavior_rate")}
            for name in ("vector", "unsteered", evil)
        },
    }  # fmt: skip
    print_explanation(card, None, workplace, False)
    told = capsys.readouterr().out
    assert "red" in told
    assert "\x1b" not in told


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
    [("attribute", "--help"), ("explain", "--help"), ("explain", "v.npy"), ("info", "explained")],
    ids=" ".join,
)
def test_what_needs_no_model_imports_none(
    workplace: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    explained = tmp_path / "explained"
    explained.mkdir()
    card = {
        "kind": "explanation", "sae": "none", "decomposition": None, "multiplier": 2.0,
        "damage": {"budget": 0.1, "at_own_strength": {"multiplier": 1.0, "kl_mean": 0.02}},
    }  # fmt: skip
    (explained / "card.json").write_text(json.dumps(card))
    (tmp_path / "v.npy").symlink_to(workplace / "v.npy")
    result = subprocess.run(
        [sys.executable, "-c", MODULES, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": ""},
    )
    assert result.stdout.splitlines()[-1].strip() == "heavy:", result.stderr
