"""What vectors and clamps break: from the benchmark's file to tables and figures."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from experiments.benchmark_questions import TwoChoices
from experiments.laboratory import Laboratory
from experiments.side_effects.battery import PROSE, Battery
from experiments.side_effects.rows import apart, difference_of_two
from experiments.side_effects.study import SIZES, study
from experiments.side_effects.table import draw
from experiments.side_effects.topics import TOPICS, topic_features, topic_of, where_it_fires
from trimtab.errors import SelectionError, VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.steering.clamp import FeatureClamp
from trimtab.steering.vector import SteeringVector, save_vector

MakeLaboratory = Callable[[str, Any], Laboratory]

NOUNS = ("fox", "dog", "answer", "question", "course", "help", "rest", "lazy")
BEHAVIORS = ("refusal", "quickness", "doubt", "answers", "moods")
SMALL = replace(
    SIZES,
    questions=8,
    texts=6,
    features=4,
    draws=2,
    topics=("mathematics", "history"),
    topic_questions=12,
    topic_features=3,
)


def rows_of_mmlu() -> list[dict[str, str]]:
    subjects = ("abstract_algebra", "prehistory", "formal_logic", "global_facts")
    return [
        {
            "prompt": f"What of the {noun} {i} in {subject}?\n\nChoices:\n(A) yes\n(B) no",
            "correct": "(A)" if i % 2 else "(B)",
            "incorrect": "(B)" if i % 2 else "(A)",
            "correct_full_text": "yes" if i % 2 else "no",
            "incorrect_full_text": "no" if i % 2 else "yes",
            "category": subject,
        }
        for subject in subjects
        for i, noun in enumerate(NOUNS)
    ]


@pytest.fixture
def side_effects(laboratory: MakeLaboratory, data: Path, tmp_path: Path) -> Laboratory:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/caa/test/mmlu").mkdir(parents=True)
    (tmp_path / "data/caa/test/mmlu/mmlu.json").write_text(json.dumps(rows_of_mmlu()))
    vector = SteeringVector(torch.randn(16), HookPoint(2, "hook_resid_post"))
    save_vector(vector, tmp_path / "other.safetensors")
    save_vector(replace(vector, positions="generated"), tmp_path / "late.safetensors")
    sizes = replace(SMALL, vectors=(str(tmp_path / "other.safetensors"),))
    return replace(laboratory("side_effects", sizes), data=tmp_path / "data")


def test_the_study_measures_draws_and_measures_nothing_twice(
    side_effects: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = study(side_effects)
    side_effects.write(tables)
    page = draw(side_effects.out)
    assert {f.name for f in side_effects.out.glob("*.svg")} == {"vectors.svg", "topics.svg"}
    vectors = pl.read_parquet(side_effects.out / "vectors.parquet")
    other = str(side_effects.data).replace("data", "other.safetensors")
    assert set(vectors["of"]) == {"", *BEHAVIORS, other}
    assert set(vectors.filter(pl.col("of") != "")["sign"]) == {"+", "−"}
    assert vectors.filter(pl.col("of") != "")["beyond_random"].null_count() == 0
    assert all(f"| {topic} | chosen" in page for topic in ("mathematics", "history"))
    topics = pl.read_parquet(side_effects.out / "topics.parquet")
    less = topics.filter(asked="the topic less the rest")
    assert less.filter(features="chosen")["beyond_random"].null_count() == 0
    assert topics.filter(features="random")["p"].is_null().all()
    assert (topics["damage"] >= 0).all()
    assert re.search(r"\| nats on neutral text \|.*\| \d\.\d\d \[", page)  # perplexity

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    for part in ("side_effects.battery.Completions", "side_effects.study.activity"):
        monkeypatch.setattr(f"experiments.{part}", never)
    monkeypatch.setattr("trimtab.selector.scales.calibrate", never)
    again = study(replace(side_effects))
    assert {name: list(map(repr, rows)) for name, rows in again.items()} == {
        name: list(map(repr, rows)) for name, rows in tables.items()
    }
    fewer = replace(side_effects, sizes=replace(side_effects.sizes, topic_features=2))
    with pytest.raises(SelectionError, match="with other settings"):
        study(fewer)
    assert not fewer.failed  # no topic was tried


@pytest.mark.parametrize("name", ["late.safetensors", "nowhere"])
def test_a_vector_that_cannot_be_measured_is_refused_before_anything_is(
    side_effects: Laboratory, tmp_path: Path, name: str
) -> None:
    sizes = replace(side_effects.sizes, vectors=(str(tmp_path / name),))
    with pytest.raises(VectorError, match=name):
        study(replace(side_effects, sizes=sizes))
    assert not side_effects.out.exists()


def test_a_topic_that_the_file_lacks_is_noted_with_those_that_it_has(
    side_effects: Laboratory,
) -> None:
    few = replace(side_effects, sizes=replace(side_effects.sizes, topics=("law",), vectors=()))
    tables = study(few)
    assert tables["topics"] == []
    few.write(tables)
    assert "unsteered" in draw(few.out)
    assert "mathematics" in few.failed["law"]


def test_margins_are_those_of_plain_passes_while_the_question_is_read(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    question = TwoChoices("What of the fox?\n(A) yes\n(B) no", "(A)", "(B)", "yes", "no", "law")
    change = where_it_fires(tiny_sae, dict.fromkeys(range(20), -1.0))
    battery = Battery(tiny_model, [question], ["I " * 12], tiny_sae.hook_point, "all")
    found = battery(change)
    nats = []
    for answer in ("(A)", "(B)", "yes", "no"):
        row = render(tiny_model, [{"role": "user", "content": question.question}], answer)
        ids = torch.tensor([row.ids])
        with torch.no_grad(), edit(tiny_model, tiny_sae.hook_point, change):
            logits = tiny_model.module(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        own = logits[:-1].gather(1, ids[0, 1:, None])[row.n_prompt - 1 :]
        nats.append((float(own.sum()), float(own.mean())))
    assert found["letter margin"] == pytest.approx([nats[0][0] - nats[1][0]], abs=1e-3)
    assert found["spelled-out margin"] == pytest.approx([nats[2][1] - nats[3][1]], abs=1e-3)
    assert found["letter accuracy"] == [float(nats[0][0] > nats[1][0])]
    assert len(found[PROSE]) == 1


def test_what_is_set_where_it_fires_leaves_other_tokens_alone(tiny_sae: SAE) -> None:
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    fires = tiny_sae.encode(x)[:, 5] > 0
    assert 0 < int(fires.sum()) < 50
    changed = where_it_fires(tiny_sae, {5: -2.0})(x)
    assert torch.equal(changed[~fires], x[~fires])
    everywhere = FeatureClamp(tiny_sae, {5: -2.0}).edit(1.0)
    assert everywhere is not None
    torch.testing.assert_close(changed[fires], everywhere(x)[fires])


def test_a_topics_features_fire_more_on_its_questions() -> None:
    means = torch.rand(40, 6, generator=torch.Generator().manual_seed(0)) * 0.1
    means[:20, 2] += 1.0
    means[20:, 4] += 1.0
    of_topic = [i < 20 for i in range(40)]
    found = topic_features(means, of_topic, 6)
    assert found[0] == 2
    assert 4 not in found
    assert topic_features(torch.zeros(40, 6), of_topic, 3) == []


def test_a_subject_has_one_topic() -> None:
    every = [subject for known in TOPICS.values() for subject in known]
    assert len(every) == len(set(every)) == 55
    assert topic_of("virology") == "biology and medicine"
    assert topic_of("sorcery") == "sorcery"


def test_a_difference_on_other_questions_has_the_interval_of_both() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(1, 1, (200, 1)), rng.normal(0, 1, (100, 1))
    found = difference_of_two(one, other)
    assert found.low is not None and found.high is not None and found.value is not None
    assert found.low < 1.0 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * (1 / 200 + 1 / 100) ** 0.5, rel=0.2)
    assert difference_of_two(np.ones((3, 1)), np.zeros((50, 1))).low is None
    unlike = difference_of_two(one + np.array([0, 1.0, 2.0]), other + np.zeros(3))
    assert unlike.low is not None and unlike.high is not None
    assert unlike.high - unlike.low > 2 * (found.high - found.low), "draws differ, too"


def test_where_no_answer_changes_nothing_is_certain() -> None:
    own = np.arange(40) < 20
    row = apart(np.zeros(40), own, np.zeros((40, 3)))
    assert row["p"] == 1.0
    for name in ("change", "beyond_random"):
        assert (row[name].value, row[name].low) == (0.0, None)


def test_a_topic_that_alone_suffers_is_told_from_the_rest() -> None:
    own = np.arange(60) < 30
    changes = np.random.default_rng(0).normal(-1.0 * own, 0.5)
    row = apart(changes, own, np.zeros((60, 3)))
    assert row["p"] < 1e-6
    assert row["beyond_random"].high < 0
    control = apart(np.stack([changes] * 3, axis=1), own, None)
    assert "p" not in control
    assert "beyond_random" not in control
