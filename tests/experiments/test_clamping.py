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
from experiments.clamping.tasks import Choices, Outcome, Replies, floors, told_true
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
        draws=2,
        truthful_replies=5,
        reasoning_replies=5,
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
    control = clamps.filter(at_budget, features="random", measure="mc1")
    assert set(control["draws"]) == {1, 2}, "not every draw reaches the budget"
    assert control["p"].is_null().all(), "controls are in no family of tests"
    assert set(clamps.filter(~at_budget, features="random")["draws"]) == {1}
    written = clamps.filter(measure="ends by itself")
    assert set(written["count"]) == {2}
    assert set(written["clamp"]) == set(clamps["clamp"])
    assert set(written["items"]) == {5}
    raw = clamps["fraction"] * 2.0  # every feature's strongest activation is 2 here
    assert clamps["raw"].to_list() == pytest.approx(raw.to_list())

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    for part in ("study.calibrate", "tasks.generate", "tasks.Completions"):
        monkeypatch.setattr(f"experiments.clamping.{part}", never)
    again = study(replace(clamping))
    assert {name: list(map(repr, rows)) for name, rows in again.items()} == {
        name: list(map(repr, rows)) for name, rows in tables.items()
    }


def test_a_study_without_enough_features_still_has_a_page(clamping: Laboratory) -> None:
    none = replace(clamping, sizes=replace(clamping.sizes, counts=(999,)))
    none.write(study(none))
    assert "| task | choice |" in draw(none.out)


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
    sets = feature_sets(descriptions(48), ["label of word"], contrast, 8, draws=2, seed=0)
    assert [(one.choice, one.features, one.draw) for one in sets] == [
        (choice, *one)
        for choice in ("label: label of word", CONTRAST)
        for one in (("chosen", 0), ("random", 0), ("random", 1))
    ]
    assert sets[3].members == tuple(range(47, 39, -1))
    for chosen, random in ((sets[i], sets[j]) for i, j in ((0, 1), (0, 2), (3, 4), (3, 5))):
        assert not set(chosen.members) & set(random.members)
        assert len(set(random.members)) == 8
        assert 3 not in (*chosen.members, *random.members), "it never fires"


def test_mc1_and_mc2_follow_from_the_log_probabilities_of_plain_passes(
    tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    write_benchmarks(tmp_path)
    question = read_truthful(tmp_path / "truthfulqa" / "mc_task.json")[0]
    clamp = FeatureClamp(tiny_sae, {1: -2.0})
    found = Choices(tiny_model, clamp.hook_point, [question], None)(clamp)
    nats, lengths = {}, {}
    for answer in question.mc2:
        row = render(tiny_model, [{"role": "user", "content": question.question}], answer)
        ids = torch.tensor([row.ids])
        with torch.no_grad(), steered(tiny_model, clamp, 1.0, prompt_length=row.n_prompt):
            logits = tiny_model.module(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        own = logits[:-1].gather(1, ids[0, 1:, None])[row.n_prompt - 1 :]
        nats[answer], lengths[answer] = float(own.sum()), len(own)
    best = max(question.mc1, key=nats.__getitem__)
    assert found["mc1"] == Outcome([float(question.mc1[best])], True, [best])
    assert found["length of the choice"].values == [lengths[best]]
    weights = {answer: np.exp(n) for answer, n in nats.items()}
    true = sum(w for answer, w in weights.items() if question.mc2[answer])
    assert found["mc2"].values == pytest.approx([true / sum(weights.values())], rel=1e-4)


def test_a_reply_is_true_where_it_is_nearer_to_what_is_true(tmp_path: Path) -> None:
    write_benchmarks(tmp_path)
    question = read_truthful(tmp_path / "truthfulqa" / "mc_task.json")[0]
    said = ["The fox jumps.", "I cannot help you.", "", "zzz"]
    told = told_true([question] * 4, said)["generated true"]
    assert told == Outcome([1.0, 0.0, 0.0, 0.0], True, said)


def test_a_reply_that_fills_its_tokens_has_not_ended_by_itself(
    tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_benchmarks(tmp_path)
    questions = read_truthful(tmp_path / "truthfulqa" / "mc_task.json")[:2]
    said = ["The fox jumps.", " ".join(["fox"] * 40)]
    monkeypatch.setattr("experiments.clamping.tasks.generate", lambda *_, **__: said)
    found = Replies(tiny_model, questions, None, 32, told_true)(None)
    assert found["ends by itself"] == Outcome([1.0, 0.0], True)


def test_an_accuracy_at_chance_and_a_form_at_the_floor_say_why_there_is_none(
    tmp_path: Path,
) -> None:
    write_benchmarks(tmp_path)
    problems = read_gsm8k(tmp_path / "gsm8k" / "test.jsonl")
    gold = [str(one.number) for one in problems]
    shown, hidden = (Outcome([x] * len(gold), True) for x in (1.0, 0.0))
    good = {"accuracy": Outcome([1.0] * len(gold), True, gold), "form as asked": shown}
    assert floors(good, problems) == {}
    wrong = Outcome([0.0] * len(gold), True, ["None"] * len(gold))
    found = floors({"accuracy": wrong, "form as asked": hidden}, problems)
    assert "does not beat chance" in found["accuracy"]
    assert "floor" in found["form as asked"]


def clamped(fraction: float, change: float, p: float, **other: Any) -> dict[str, Any]:
    return {
        **{"task": "T", "measure": "mc1", "features": "chosen", "fraction": fraction},
        **{"change": Estimate(change), "p_holm": p, "damage": abs(fraction), "tests": 4},
        **{"beyond_random": Estimate(change, change - 0.1, change + 0.1)},
        **{"least_p_gain": 0.001, "least_p_loss": 0.001},
        **other,
    }


def test_verdicts_count_what_is_clear_by_kind_of_clamp() -> None:
    rows = [clamped(-0.1, 0.2, 0.01), clamped(-0.05, -0.3, 0.4), clamped(-1.0, -0.5, 0.001)]
    found = verdicts(rows)
    assert [(r["clamps"], r["tested"], r["better"], r["worse"]) for r in found] == [
        ("small negative", 2, 1, 0),
        ("large negative", 1, 0, 1),
    ]
    assert (found[0]["best_change"], found[0]["worst_change"]) == (0.2, -0.3)
    assert found[1]["worse_than_random"] == 1


def test_what_random_features_do_as_well_helps_nobody() -> None:
    as_random = {"beyond_random": Estimate(0.0, -0.1, 0.1)}
    (found,) = verdicts([clamped(-1.0, 0.5, 0.001, **as_random)])
    assert found["better"] == 0
    (found,) = verdicts([clamped(-1.0, -0.5, 0.001, **as_random)])
    assert (found["worse"], found["worse_than_random"]) == (1, 0)


def test_too_few_questions_cannot_tell() -> None:
    (found,) = verdicts([clamped(-1.0, -0.5, 0.1, least_p_loss=0.02)])
    assert found["worse"] is None
    assert found["worse_than_random"] is None
    assert found["better"] == 0
    assert found["least_p_loss"] == pytest.approx(0.08)


@given(st.floats(-2, 2, allow_nan=False))
def test_every_strength_is_of_a_kind(fraction: float) -> None:
    size, sign = kind_of(fraction).split()
    assert size in {"small", "middling", "large"}
    assert sign == ("negative" if fraction < 0 else "positive" if fraction > 0 else "zero")


def test_closeness_that_orders_the_changes_correlates_with_them() -> None:
    close, sizes = np.arange(6.0), [4] * 6
    changes = close + np.random.default_rng(0).normal(scale=0.5, size=(40, 6))
    found = spearman_estimate(close, changes, sizes, 0)
    assert found.value == pytest.approx(1.0)
    assert found.low is not None and found.low > 0.9
    reverse = spearman_estimate(-close, changes, sizes, 0)
    assert reverse.value == pytest.approx(-1.0)
    assert spearman_estimate(np.zeros(6), changes, sizes, 0).value is None


def test_the_number_of_features_is_no_closeness() -> None:
    rng = np.random.default_rng(0)
    few, many = 1 + rng.random(8), rng.random(8)  # the larger sets are less close, and do more
    changes = np.concatenate([rng.random(8), 1 + rng.random(8)]) + rng.normal(0, 0.01, (40, 16))
    close = np.concatenate([few, many])
    pooled = spearman_estimate(close, changes, [1] * 16, 0).value
    ranked = spearman_estimate(close, changes, [1] * 8 + [16] * 8, 0).value
    assert pooled is not None and pooled < -0.6
    assert ranked is not None and abs(ranked) < 0.4
