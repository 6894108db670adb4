"""Clamping on TruthfulQA and GSM8K: from the benchmarks' files to tables and figures."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.benchmark_questions import read_gsm8k, read_truthful
from experiments.clamping.closeness import spearman_estimate
from experiments.clamping.feature_sets import CONTRAST, feature_sets
from experiments.clamping.study import SIZES, Sizes, study
from experiments.clamping.table import draw
from experiments.clamping.tasks import Outcome, Reasoning, Truthfulness
from experiments.clamping.verdicts import kind_of, verdicts
from experiments.config import SMALL, read_config, sizes_of
from experiments.laboratory import Laboratory
from experiments.side_effects.study import SIZES as SIDE_EFFECTS
from trimtab.errors import SelectionError
from trimtab.model.features.descriptions import write_descriptions
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.selector.intervals import Estimate
from trimtab.steering.apply import steered
from trimtab.steering.clamp import FeatureClamp

MakeLaboratory = Callable[[str, Any], Laboratory]

NOUNS = ("fox", "dog", "answer", "question", "course", "help", "rest", "quick")


def write_benchmarks(data: Path) -> None:
    truthful = [
        {
            "question": f"What of the {noun} {i}?",
            "mc1_targets": {f"The {noun} jumps.": 1, f"The {noun} thinks of you.": 0},
            "mc2_targets": {
                f"The {noun} jumps.": 1,
                "Of course.": 1,
                f"The {noun} thinks of you.": 0,
                "I cannot help.": 0,
            },
        }
        for i, noun in enumerate(NOUNS * 2)
    ]
    (data / "truthfulqa").mkdir(parents=True)
    (data / "truthfulqa" / "mc_task.json").write_text(json.dumps(truthful))
    problems = [
        {
            "question": f"How many is {i} and 1,000 of the {noun}?",
            "answer": f"It is {i} + 1,000 = <<{i}+1000={i + 1000}>>{i + 1000}.\n#### {i + 1000:,}",
        }
        for i, noun in enumerate(NOUNS)
    ]
    (data / "gsm8k").mkdir()
    (data / "gsm8k" / "test.jsonl").write_text("\n".join(map(json.dumps, problems)))


@pytest.fixture
def sizes(tmp_path: Path, descriptions: Callable[..., pl.DataFrame]) -> Sizes:
    file = tmp_path / "features.parquet"
    write_descriptions(descriptions(48), file)
    return replace(
        SIZES,
        questions=16,
        problems=6,
        counts=(1, 2),
        strengths=(-1.0, 0.1),
        truthful_phrases=("label of word 7",),
        reasoning_phrases=("label of word 9",),
        truthful_tokens=3,
        reasoning_tokens=3,
        descriptions=str(file),
    )


@pytest.fixture
def clamping(laboratory: MakeLaboratory, sizes: Sizes, tmp_path: Path) -> Laboratory:
    write_benchmarks(tmp_path / "data")
    return replace(laboratory("clamping", sizes), data=tmp_path / "data")


def test_the_study_measures_draws_and_measures_nothing_twice(
    clamping: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = study(clamping)
    clamping.write(tables)
    page = draw(clamping.out)
    assert {f.name for f in clamping.out.glob("*.svg")} == {"truthfulqa.svg", "gsm8k.svg"}
    assert "does not beat chance" in page
    clamps = pl.read_parquet(clamping.out / "clamps.parquet")
    at_budget = pl.col("clamp").str.contains("nats")
    chosen = clamps.filter(~at_budget, features="chosen")
    assert chosen.filter(measure="mc1")["beyond_random"].null_count() == 0
    assert clamps.filter(measure="accuracy")["p"].is_null().all()
    assert clamps.filter(at_budget)["damage"].to_numpy() == pytest.approx(0.1, rel=0.03)
    raw = clamps["fraction"] * 2.0  # every feature's strongest activation is 2 here
    assert clamps["raw"].to_list() == pytest.approx(raw.to_list())

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    for part in ("study.calibrate", "tasks.generate_each", "tasks.Completions"):
        monkeypatch.setattr(f"experiments.clamping.{part}", never)
    again = study(replace(clamping))
    assert {name: list(map(repr, rows)) for name, rows in again.items()} == {
        name: list(map(repr, rows)) for name, rows in tables.items()
    }


def test_features_without_descriptions_are_refused_with_the_way_out(clamping: Laboratory) -> None:
    bare = replace(clamping, sizes=replace(clamping.sizes, descriptions=""))
    with pytest.raises(SelectionError, match=r"trimtab describe.*sizes\.clamping\.descriptions"):
        study(bare)


def test_more_features_than_there_are_is_noted_and_the_rest_goes_on(clamping: Laboratory) -> None:
    many = replace(clamping, sizes=replace(clamping.sizes, counts=(1, 999)))
    tables = study(many)
    assert {row["count"] for row in tables["clamps"]} == {1}
    assert any("not 999" in why for why in many.failed.values())


@pytest.mark.parametrize("name", ["llama-8b", "llama-70b"])
def test_the_larger_forms_name_saes_that_sae_lens_knows(name: str) -> None:
    config = read_config(SMALL.with_name(f"{name}.toml"))
    for study_name, its in (("clamping", SIZES), ("side_effects", SIDE_EFFECTS)):
        assert sizes_of(config, study_name, its) != its
    found = find_spec("sae_lens")  # whose import takes ten seconds
    assert found is not None and found.origin is not None
    registry = Path(found.origin).with_name("pretrained_saes.yaml").read_text()
    release, _, sae_id = config.sae.partition("/")
    own = re.split(r"\n(?=\S)", registry.split(f"\n{release}:", 1)[1])[0]
    assert f"id: {sae_id}\n" in own
    assert f"model: {config.model}\n" in own


def test_chosen_features_and_their_random_ones_have_nothing_in_common(
    descriptions: Callable[..., pl.DataFrame],
) -> None:
    contrast = np.linspace(-1, 1, 48)
    sets = feature_sets(descriptions(48), ["label of word"], contrast, 8, seed=0)
    assert [(one.choice, one.features) for one in sets] == [
        ("label: label of word", "chosen"),
        ("label: label of word", "random"),
        (CONTRAST, "chosen"),
        (CONTRAST, "random"),
    ]
    assert sets[2].members == tuple(range(47, 39, -1))
    for chosen, random in (sets[:2], sets[2:]):
        assert not set(chosen.members) & set(random.members)
        assert len(set(random.members)) == 8
        assert 3 not in (*chosen.members, *random.members), "it never fires"


def test_mc1_and_mc2_follow_from_the_log_probabilities_of_plain_passes(
    tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    write_benchmarks(tmp_path)
    question = read_truthful(tmp_path / "truthfulqa" / "mc_task.json")[0]
    clamp = FeatureClamp(tiny_sae, {1: 2.0})
    (found,) = Truthfulness(tiny_model, clamp, [question], None, 2)([(clamp, -1.0)])
    nats = {}
    for answer in question.mc2:
        row = render(tiny_model, [{"role": "user", "content": question.question}], answer)
        ids = torch.tensor([row.ids])
        with torch.no_grad(), steered(tiny_model, clamp, -1.0, prompt_length=row.n_prompt):
            logits = tiny_model.module(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        own = logits[:-1].gather(1, ids[0, 1:, None])[row.n_prompt - 1 :]
        nats[answer] = float(own.sum())
    best = max(question.mc1, key=nats.__getitem__)
    assert found["mc1"] == Outcome([float(question.mc1[best])], True, [best])
    weights = {answer: np.exp(n) for answer, n in nats.items()}
    true = sum(w for answer, w in weights.items() if question.mc2[answer])
    assert found["mc2"].values == pytest.approx([true / sum(weights.values())], rel=1e-4)


def test_a_reply_is_true_where_it_is_nearer_to_what_is_true(
    tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    write_benchmarks(tmp_path)
    question = read_truthful(tmp_path / "truthfulqa" / "mc_task.json")[0]
    task = Truthfulness(tiny_model, FeatureClamp(tiny_sae, {1: 2.0}), [question], None, 2)
    said = [["The fox jumps."], ["I cannot help you."], [""], ["zzz"]]
    assert task._told_true(said) == [[1.0], [0.0], [0.0], [0.0]]


def test_an_accuracy_at_chance_says_why_it_is_none(
    tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    write_benchmarks(tmp_path)
    problems = read_gsm8k(tmp_path / "gsm8k" / "test.jsonl")
    task = Reasoning(tiny_model, FeatureClamp(tiny_sae, {1: 2.0}), problems, None, 2)
    gold = [str(one.number) for one in problems]
    assert task.floors({"accuracy": Outcome([1.0] * len(gold), True, gold)}) == {}
    wrong = Outcome([0.0] * len(gold), True, ["None"] * len(gold))
    assert "does not beat chance" in task.floors({"accuracy": wrong})["accuracy"]


def test_verdicts_count_what_is_clear_by_kind_of_clamp() -> None:
    def row(fraction: float, change: float, p: float) -> dict[str, Any]:
        return {
            **{"task": "T", "measure": "mc1", "features": "chosen", "fraction": fraction},
            **{"change": Estimate(change), "p_holm": p, "damage": abs(fraction)},
        }

    found = verdicts([row(-0.1, 0.2, 0.01), row(-0.05, -0.3, 0.4), row(-1.0, -0.5, 0.001)])
    assert [(r["clamps"], r["tested"], r["better"], r["worse"]) for r in found] == [
        ("small negative", 2, 1, 0),
        ("large negative", 1, 0, 1),
    ]
    assert (found[0]["best_change"], found[0]["worst_change"]) == (0.2, -0.3)


@given(st.floats(-2, 2, allow_nan=False))
def test_every_strength_is_of_a_kind(fraction: float) -> None:
    size, sign = kind_of(fraction).split()
    assert size in {"small", "middling", "large"}
    assert sign == ("negative" if fraction < 0 else "positive" if fraction > 0 else "zero")


def test_closeness_that_orders_the_changes_correlates_with_them() -> None:
    close = np.arange(6.0)
    changes = close + np.random.default_rng(0).normal(scale=0.5, size=(40, 6))
    found = spearman_estimate(close, changes, 0)
    assert found.value == pytest.approx(1.0)
    assert found.low is not None and found.low > 0.9
    reverse = spearman_estimate(-close, changes, 0)
    assert reverse.value == pytest.approx(-1.0)
    assert spearman_estimate(np.zeros(6), changes, 0).value is None
