"""The study of targets measures everything once, resumes, and is drawn without a model."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from experiments.record import flat
from experiments.targets.sizes import FULL, QUICK, Sizes
from experiments.targets.study import study
from experiments.targets.table import CHOICE, FIGURE, TABLES, draw, side_by_side
from experiments.targets.worth import Measured, over_halvings, predictions, worth
from trimtab.errors import SelectionError
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.selector.target.standing import Said, compare
from trimtab.steering.margin import Margin
from trimtab.store import Store

TINY = Sizes(vectors=24, prompts=8, questions=8, tokens=6, damage_texts=2, halvings=3)


@pytest.fixture(scope="module")
def results(
    store: Store,
    questions: list[str],
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("results")
    study(store, "refusal", tiny_model, tiny_sae, out, questions=questions, sizes=TINY)
    return out


def test_every_vector_has_its_effects_and_its_rates(results: Path) -> None:
    vectors = pl.read_parquet(results / "vectors.parquet")
    assert vectors.height == TINY.vectors
    assert vectors["vector"].n_unique() == TINY.vectors
    assert vectors.filter(half="calibration").height == TINY.vectors // 2
    for column in ("rate", "rate_tune", "rate_other_judge"):
        assert vectors[column].is_between(0, 1).all()
    for name in ("dataset", "dataset_first_tokens", "projection"):
        assert vectors[name].n_unique() == TINY.vectors
    dense = vectors.filter(vector="dense mean difference").row(0, named=True)
    assert dense["cosine_to_dense"] == pytest.approx(1)
    assert dense["projection"] == pytest.approx(dense["multiplier"], rel=1e-4)


def test_every_reply_is_kept_with_what_both_judges_say(
    results: Path, pairs: list[Sample], questions: list[str]
) -> None:
    replies = pl.read_parquet(results / "replies.parquet")
    counts = dict(replies.group_by("asked").len().iter_rows())
    assert counts == dict.fromkeys(("tune", "questions"), 8 * (TINY.vectors + 1))
    assert set(replies.filter(asked="questions")["prompt"]) == set(questions[:8])
    tuning = {sample.prompt for sample in pairs}
    assert set(replies.filter(asked="tune")["prompt"]) <= tuning
    assert "unsteered" in set(replies["vector"])
    judges = pl.read_parquet(results / "judges.parquet").row(0, named=True)
    assert {judges["judge"], judges["other"]} == {"words", "reading"}
    assert judges["replies"] == replies.height
    same = (replies["probability"] > 0.5) == (replies["probability_other_judge"] > 0.5)
    assert judges["agreement"] == pytest.approx(float(same.mean()))  # type: ignore[arg-type]
    rates = replies.filter(asked="questions").group_by("vector").agg(
        rate_again=(pl.col("probability") > 0.5).mean()
    )  # fmt: skip
    vectors = pl.read_parquet(results / "vectors.parquet").join(rates, on="vector")
    assert vectors["rate"].to_list() == pytest.approx(vectors["rate_again"].to_list())


def test_the_config_says_what_ran(results: Path, questions: list[str]) -> None:
    config = json.loads((results / "config.json").read_text(encoding="utf-8"))
    assert config["settings"]["vectors"] == TINY.vectors
    assert config["settings"]["asked"] == questions
    assert config["vectors"] == TINY.vectors
    assert config["commit"]
    assert 0 <= config["unsteered_rate"] <= 1


def test_a_finished_study_measures_nothing_again(
    results: Path,
    questions: list[str],
    store: Store,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {name: pl.read_parquet(results / f"{name}.parquet") for name in TABLES}

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    for name in ("effects", "gradient", "mean_effect"):
        monkeypatch.setattr(Margin, name, never)
    monkeypatch.setattr("trimtab.selector.bench.generate", never)
    monkeypatch.setattr("trimtab.selector.scales.calibrate", never)
    study(store, "refusal", tiny_model, tiny_sae, results, questions=questions, sizes=TINY)
    for name, rows in before.items():
        assert pl.read_parquet(results / f"{name}.parquet").equals(rows), name
    with pytest.raises(SelectionError, match="seed: 0 then, 1 now"):
        study(
            store, "refusal", tiny_model, tiny_sae, results, questions=questions, sizes=TINY, seed=1
        )


def test_tables_and_figure_are_drawn_from_the_folder_alone(
    results: Path, questions: list[str]
) -> None:
    printed = draw(results)
    for shown in TABLES.values():
        assert shown.title in printed
    assert f"Answers to: {questions[0]}" in printed
    assert "<svg" in (results / FIGURE).read_text(encoding="utf-8")
    code = "import sys, experiments.targets.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_several_behaviors_are_laid_side_by_side(results: Path) -> None:
    lines = side_by_side([results, results]).splitlines()
    assert lines[0] == "|  | refusal |"
    first = [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]]
    assert {"dataset", "projection"} <= set(first)
    assert first[-2:] == ["reliability of the rates", "two unlike judges agree"]
    assert not any("under the dense vector alone" in name for name in first)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"has no correlations\.parquet"):
        draw(tmp_path)


def test_the_study_is_large_enough_to_answer_the_question() -> None:
    assert FULL.vectors // 2 >= 40
    assert QUICK.vectors >= 40


def made_up(n: int, seed: int) -> Measured:
    """Vectors whose rates `own_replies` knows, `dataset` does not, and two halves know together."""
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=(2, n))
    rates = np.clip(0.5 + 0.2 * one + 0.2 * two, 0, 1)
    tune, questions, other = (rng.uniform(size=(3, n, 40)) < rates[:, None]).astype(float)
    effects = {
        "dataset": rng.normal(size=n),
        "own_replies": rates + 0.3 * rng.normal(size=n),
        "dataset_first_tokens": one,
        "own_replies_first_tokens": two,
    }
    said = {name: Said(values[:, None], ["all"]) for name, values in effects.items()}
    return Measured(said, tune, questions, other, [f"prompt {i}" for i in range(40)])


def test_the_choice_is_made_on_one_half_and_judged_on_the_other() -> None:
    measured = made_up(80, 0)
    choose, report = measured.rows(np.arange(40)), measured.rows(np.arange(40, 80))
    rows, standing = worth(choose, report)
    rows = [flat(row) for row in rows]
    by_name = {row["surrogate"]: row for row in rows}
    assert standing.best == "learned"
    assert by_name[CHOICE]["is"] == "learned"
    assert by_name[CHOICE]["held_out"] > 0.85
    assert by_name["dataset"]["held_out"] < 0.4
    for row in rows:
        assert row["held_out_low"] <= row["held_out"] <= row["held_out_high"]
    assert by_name["reliability of the rates"]["held_out"] > 0.8
    silent = measured.rows(np.arange(40))
    blind = replace(silent, questions=np.zeros((40, 40)), other=np.zeros((40, 40)))
    same, _ = worth(blind, report)  # the chosen half's questions are never looked at
    assert [flat(row) for row in same] == rows


def test_what_is_said_of_other_vectors_uses_the_weights_that_were_fitted() -> None:
    measured = made_up(40, 1)
    standing = compare(measured.said, measured.tune, measured.prompts)
    said = predictions(standing, {name: np.eye(4)[i] for i, name in enumerate(measured.effects)})
    assert standing.weights is not None
    assert said["learned"].tolist() == pytest.approx(list(standing.weights.values()))


def test_over_random_halves_the_better_surrogate_is_picked_more_often() -> None:
    rows = {row["surrogate"]: row for row in over_halvings(made_up(60, 2), 10, seed=0)}
    assert rows["learned"]["picked"] > rows["dataset"]["picked"]
    assert rows[CHOICE]["mean"] > rows["dataset"]["mean"]
    assert rows[CHOICE]["mean_low"] <= rows[CHOICE]["mean"] <= rows[CHOICE]["mean_high"]
    assert sum(row["picked"] for row in rows.values()) == pytest.approx(1)
