"""The held-out numbers: effects, rates, faithfulness, anti-steerable pairs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.pairs import Message, Sample
from trimtab.selector.bench import Bench
from trimtab.selector.journal import Journal
from trimtab.selector.proof.evaluate import (
    HeldOut,
    Outcome,
    anti_steerable,
    damage_curve,
    effect_beyond,
    faithfulness,
    measure,
    measure_prompting,
    measure_unsteered,
    rate_beyond,
)
from trimtab.steering.damage import Damage
from trimtab.steering.fluency import repetition, reply_nats
from trimtab.steering.generation import generate, read_prompts
from trimtab.steering.judges.classifier import train_classifier
from trimtab.steering.margin import Margin

POINT = HookPoint(1, "hook_resid_post")
WORDS = ("think", "should", "rather", "course", "quick", "brown")
TEXTS = ["The quick brown fox jumps over the lazy dog.", "What is the answer to the question?"]
BUDGET = 0.05
DIRECTION = torch.randn(16, generator=torch.Generator().manual_seed(1))


def ask(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


SAMPLES = [
    Sample(word, "refusal", ask(f"The {word}?"), f"Sorry, no {word}.", f"Yes, {word} it is.", word)
    for word in WORDS
]
CHATS = [[*ask(f"The {word}?"), {"role": "assistant", "content": "Of course."}] for word in WORDS]
QUESTIONS = (ask("What now?"), ask("Agree?"))


@pytest.fixture
def bench(tiny_model: LanguageModel, tmp_path: Path) -> Bench:
    return Bench(
        Journal(tmp_path / "journal", {}),
        POINT,
        Damage(tiny_model, POINT, TEXTS[:1]),
        BUDGET,
        tiny_model,
        train_classifier(SAMPLES, tiny_model),
        max_new_tokens=4,
    )


@pytest.fixture
def held_out(tiny_model: LanguageModel) -> HeldOut:
    margin = Margin(tiny_model, SAMPLES[:4], POINT)
    return HeldOut(margin, QUESTIONS, Damage(tiny_model, POINT, TEXTS))


def outcome(effects: list[float], shown: list[float], draws: int = 1) -> Outcome:
    repeated = [np.repeat(np.array(values)[:, None], draws, axis=1) for values in (effects, shown)]
    return Outcome(repeated[0], repeated[1], None, ())


def test_a_vector_is_measured_at_the_reports_own_damage(bench: Bench, held_out: HeldOut) -> None:
    found = measure(bench, held_out, [7 * DIRECTION])
    assert found.calibration is not None
    change = bench.vector(DIRECTION).edit(found.calibration.multiplier)
    assert change is not None
    assert held_out.damage(change).mean == pytest.approx(BUDGET, rel=0.03)
    np.testing.assert_allclose(found.effects[:, 0], held_out.margin.effects(change), atol=1e-5)
    prompts = read_prompts(bench.model, QUESTIONS)
    replies = generate(
        prompts, bench.vector(DIRECTION), found.calibration.multiplier, max_new_tokens=4
    )
    assert list(found.replies) == replies
    assert found.shown[:, 0].tolist() == bench.classifier.shows(replies).astype(float).tolist()
    assert found.draws == 1


def test_fluency_stands_beside_the_behaviour_rate(bench: Bench, held_out: HeldOut) -> None:
    other = torch.randn(16, generator=torch.Generator().manual_seed(2))
    found = measure(bench, held_out, [DIRECTION, other])
    assert found.nats.shape == found.repetition.shape == found.shown.shape == (2, 2)
    for draw, replies in enumerate((found.replies, *found.more_replies)):
        np.testing.assert_allclose(
            found.nats[:, draw], reply_nats(bench.model, QUESTIONS, replies), atol=1e-5
        )
        np.testing.assert_array_equal(found.repetition[:, draw], repetition(replies))
    stated = found.to_json(held_out.groups)
    assert stated["nats"]["value"] == pytest.approx(found.nats.mean())
    assert stated["repetition"] == pytest.approx(found.repetition.mean())


def test_nats_have_an_interval_over_the_questions_that_got_a_reply() -> None:
    nats = np.array([[1.0, 2.0], [np.nan, 1.0], [2.0, 3.0], [1.5, 1.5], [2.5, 2.0], [3.0, 1.0]])
    estimate = replace(outcome([], [1.0] * 6, 2), nats=nats).mean_nats()
    assert estimate.value == pytest.approx(np.delete(nats, 1, axis=0).mean())
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 1.95 < estimate.high
    silent = replace(outcome([], [0.0] * 2), nats=np.full((2, 1), np.nan))
    assert silent.mean_nats().value is None
    assert silent.mean_nats().reason


class Yes:
    """Says yes to all."""

    name, accuracy, reliable, way_out = "yes", 1.0, True, "none"

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def shows(self, conversations: Any, replies: Any) -> NDArray[np.bool_]:
        self.asked.append(tuple(conversations))
        return np.ones(len(replies), dtype=bool)


def test_every_behaviour_rate_is_by_the_judge_that_was_asked_for(
    bench: Bench, held_out: HeldOut
) -> None:
    judge = Yes()
    asking = replace(bench, asked=judge)
    assert asking.judge is judge
    for found in (
        measure(asking, held_out, [DIRECTION]),
        measure_unsteered(asking, held_out),
        measure_prompting(asking, held_out, SAMPLES[4:]),
    ):
        assert found.shown.all()
    assert all(asked == QUESTIONS for asked in judge.asked)  # prompting's replies, too
    assert not bench.judge.shows(QUESTIONS, ["", ""]).any()


def test_the_damage_on_chats_is_averaged_over_draws_at_the_reports_multipliers(
    bench: Bench, held_out: HeldOut
) -> None:
    assert measure(bench, held_out, [DIRECTION]).chats is None
    other = torch.randn(16, generator=torch.Generator().manual_seed(2))
    chats = Damage.on_chats(bench.model, POINT, CHATS)
    found = measure(bench, replace(held_out, chats=chats), [DIRECTION, other])
    alone = []
    for direction in (DIRECTION, other):
        multiplier = bench.calibrate(direction, held_out.damage, meter="report").multiplier
        alone.append(chats(bench.vector(direction).edit(multiplier)))
    expected = {
        "mean": (alone[0].mean + alone[1].mean) / 2,
        "p95": (alone[0].p95 + alone[1].p95) / 2,
    }
    assert found.to_json(held_out.groups)["chats"] == pytest.approx(expected)


def test_draws_of_a_control_stand_side_by_side(bench: Bench, held_out: HeldOut) -> None:
    other = torch.randn(16, generator=torch.Generator().manual_seed(2))
    alone = [measure(bench, held_out, [direction]) for direction in (DIRECTION, other)]
    both = measure(bench, held_out, [DIRECTION, other])
    np.testing.assert_allclose(both.effects, np.hstack([one.effects for one in alone]))
    np.testing.assert_allclose(both.shown, np.hstack([one.shown for one in alone]))
    assert both.calibration == alone[0].calibration
    assert both.draws == 2


def test_a_vectors_length_says_nothing(bench: Bench) -> None:
    assert torch.allclose(bench.vector(DIRECTION).direction, bench.vector(9 * DIRECTION).direction)
    assert bench.vector(DIRECTION).norm == pytest.approx(1.0)


def test_what_was_measured_is_not_measured_again(
    bench: Bench, held_out: HeldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure(bench, held_out, [DIRECTION])

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("trimtab.selector.scales.calibrate", fail)
    monkeypatch.setattr("trimtab.selector.bench.generate", fail)
    monkeypatch.setattr("trimtab.selector.bench.reply_nats", fail)
    monkeypatch.setattr(Margin, "effects", fail)
    again = measure(bench, held_out, [DIRECTION])
    np.testing.assert_array_equal(first.effects, again.effects)
    assert (first.replies, first.calibration) == (again.replies, again.calibration)


def test_the_unsteered_model_has_no_effect_and_its_own_replies(
    bench: Bench, held_out: HeldOut
) -> None:
    found = measure_unsteered(bench, held_out)
    assert found.effects.tolist() == [[0.0]] * 4
    assert list(found.replies) == generate(read_prompts(bench.model, QUESTIONS), max_new_tokens=4)
    assert found.calibration is None


def test_prompting_scores_the_tokens_that_the_store_kept(
    bench: Bench, tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = max(render(tiny_model, one.messages, "").n_prompt for one in SAMPLES[:2]) + 2
    cut = Margin(tiny_model, SAMPLES[:2], POINT, longest=longest)
    held_out = HeldOut(cut, QUESTIONS, Damage(tiny_model, POINT, TEXTS))
    whole = Margin(tiny_model, SAMPLES[:2], POINT)
    assert cut.lengths.sum() < whole.lengths.sum()
    made: list[Margin] = []

    def margin(*arguments: Any, **options: Any) -> Margin:
        made.append(Margin(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("trimtab.selector.bench.Margin", margin)
    measure_prompting(bench, held_out, SAMPLES[4:5])
    assert made[0].lengths.tolist() == cut.lengths.tolist()
    assert made[0].samples[0].messages != SAMPLES[0].messages


def test_a_prompt_without_room_for_examples_stays_bare(
    bench: Bench, held_out: HeldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = held_out.margin.base
    monkeypatch.setattr(bench.model.module.config, "max_position_embeddings", 60)
    found = measure_prompting(bench, held_out, SAMPLES[4:])
    assert len(found.effects) == len(bare)
    np.testing.assert_allclose(found.effects, 0, atol=1e-5)


def test_prompting_is_measured_against_the_bare_prompt(bench: Bench, held_out: HeldOut) -> None:
    examples = SAMPLES[4:]
    found = measure_prompting(bench, held_out, examples)
    longer = [
        Sample(
            s.id,
            s.behavior,
            (
                *examples[0].messages,
                {"role": "assistant", "content": str(examples[0].positive)},
                *examples[1].messages,
                {"role": "assistant", "content": str(examples[1].positive)},
                *s.messages,
            ),
            s.positive,
            s.negative,
            s.group,
        )
        for s in SAMPLES[:4]
    ]
    expected = Margin(bench.model, longer, POINT).base - held_out.margin.base
    np.testing.assert_allclose(found.effects[:, 0], expected, atol=1e-5)
    assert found.calibration is None
    assert len(found.replies) == 2


def test_the_anti_steerable_share_counts_falling_margins(bench: Bench, held_out: HeldOut) -> None:
    multiplier = bench.calibrate(DIRECTION, held_out.damage, meter="report").multiplier

    def margins(share: float) -> NDArray[np.float64]:
        change = bench.vector(DIRECTION).edit(share * multiplier)
        assert change is not None
        return held_out.margin.per_sample(change)

    slopes = margins(1.0) - margins(-1.0)
    found = anti_steerable(bench, held_out, DIRECTION)
    assert found.value == (slopes < 0).mean()
    assert anti_steerable(bench, held_out, -DIRECTION).value == pytest.approx(
        (anti_slopes(bench, held_out) < 0).mean()
    )


def anti_slopes(bench: Bench, held_out: HeldOut) -> NDArray[np.float64]:
    multiplier = bench.calibrate(-DIRECTION, held_out.damage, meter="report").multiplier
    up, down = (
        held_out.margin.per_sample(bench.vector(-DIRECTION).edit(share * multiplier))
        for share in (1.0, -1.0)
    )
    return up - down


def test_faithfulness_is_the_small_vectors_share_of_the_full_ones() -> None:
    groups = [str(i) for i in range(12)]
    full = outcome([2.0, 2.2, 1.8, 2.1, 1.9, 2.0] * 2, [1, 1, 1, 1, 0, 1] * 2)
    small = outcome([1.0, 1.1, 0.9, 1.05, 0.95, 1.0] * 2, [1, 1, 0, 1, 0, 1] * 2)
    unsteered = outcome([0.0] * 12, [0] * 12)
    margin, rate = faithfulness(small, full, unsteered, groups)
    assert margin.value == pytest.approx(0.5)
    assert rate.value == pytest.approx(0.8)


def test_faithfulness_is_null_with_the_reason_where_the_full_vector_does_nothing() -> None:
    groups = [str(i) for i in range(12)]
    nothing = outcome([0.1, -0.1, 0.2, -0.2] * 3, [1, 0, 1, 0] * 3)
    unsteered = outcome([0.0] * 12, [1, 0, 1, 0] * 3)
    for found in faithfulness(outcome([1.0] * 12, [1] * 12), nothing, unsteered, groups):
        assert found.value is None
        assert found.reason is not None
        assert "dense vector" in found.reason


def test_one_outcome_exceeds_another_by_the_difference_over_the_same_cases() -> None:
    one = outcome([3.0, 2.0, 4.0] * 4, [1, 1, 1, 0] * 3)
    other = outcome([1.0, 1.0, 1.0] * 4, [0, 1, 0, 0] * 3)
    for found, expected in (
        (rate_beyond(one, other), 0.5),
        (effect_beyond(one, other, list("abcdefghijkl")), 2.0),
    ):
        assert found.value == pytest.approx(expected)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= expected <= found.high


def test_the_damage_curve_goes_through_the_calibrated_point(
    bench: Bench, held_out: HeldOut
) -> None:
    curve = damage_curve(bench, held_out, DIRECTION)
    found = bench.calibrate(DIRECTION, held_out.damage, meter="report")
    assert curve == sorted(curve)
    assert (found.multiplier, found.damage.mean) in curve
    assert curve[0][0] <= 0.25 * found.multiplier
    assert curve[-1][0] >= 2 * found.multiplier
    for multiplier, mean in (curve[0], curve[-1]):
        change = bench.vector(DIRECTION).edit(multiplier)
        assert held_out.damage(change).mean == pytest.approx(mean, rel=1e-3, abs=1e-6)


def test_without_questions_there_is_no_behaviour_rate_and_no_crash(
    bench: Bench, tiny_model: LanguageModel
) -> None:
    without = HeldOut(Margin(tiny_model, SAMPLES[:2], POINT), (), bench.damage)
    for draws in ([DIRECTION], [DIRECTION, -DIRECTION]):
        found = measure(bench, without, draws).to_json(without.groups)
        assert found["behavior_rate"]["value"] is None
        assert found["behavior_rate"]["reason"]
        assert found["effect"]["value"] is not None
