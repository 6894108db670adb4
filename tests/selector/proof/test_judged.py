"""What two judges say of every reply, and how far they agree."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.pairs import Message, Sample
from trimtab.selector.bench import Bench
from trimtab.selector.journal import Journal
from trimtab.selector.proof.evaluate import HeldOut, Outcome
from trimtab.selector.proof.judged import COMPARED, SCHEMA, judge_facts, judged, second_opinion
from trimtab.steering.damage import Damage
from trimtab.steering.judges.classifier import TextJudge, train_classifier
from trimtab.steering.judges.llm import JudgeEndpoint, llm_judge
from trimtab.steering.margin import Margin

POINT = HookPoint(1, "hook_resid_post")
WORDS = ("think", "should", "rather", "course", "quick", "brown")


def ask(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


SAMPLES = [
    Sample(word, "refusal", ask(f"The {word}?"), f"Sorry, no {word}.", f"Yes, {word} it is.", word)
    for word in WORDS
]
QUESTIONS = tuple(ask(f"Question {i}?") for i in range(3))
SORRY, SURE = "Sorry, no.", "Yes, it is."


def outcome(*draws: tuple[str, ...]) -> Outcome:
    nothing = np.zeros((0, len(draws)))
    return Outcome(nothing, nothing, None, draws[0], more_replies=draws[1:])


OUTCOMES = {
    "minimal": outcome((SORRY, SORRY, SURE)),
    "unsteered": outcome((SURE, SURE, "")),
    "dense_mean_difference": outcome((SORRY, SURE, SURE)),
    "random_samples": outcome((SURE, SORRY, SURE), (SURE, "", SURE)),
}


@pytest.fixture
def held_out(tiny_model: LanguageModel) -> HeldOut:
    meter = Damage(tiny_model, POINT, ["The quick brown fox jumps over the lazy dog."])
    return HeldOut(Margin(tiny_model, SAMPLES[:2], POINT), QUESTIONS, meter)


@pytest.fixture
def bench(tiny_model: LanguageModel, held_out: HeldOut, tmp_path: Path) -> Bench:
    classifier = train_classifier(SAMPLES, tiny_model)
    journal = Journal(tmp_path / "journal", {})
    return Bench(journal, POINT, held_out.damage, 0.1, tiny_model, classifier)


class Contrary:
    """Says yes to every reply that is not empty."""

    name, accuracy, reliable, way_out = "contrary judge", 0.5, False, "none"

    def shows(self, conversations: Any, replies: Any) -> NDArray[np.bool_]:
        assert len(conversations) == len(replies)
        return np.array([bool(reply) for reply in replies], dtype=bool)


def test_every_draws_reply_has_a_row_with_both_opinions(bench: Bench, held_out: HeldOut) -> None:
    table = judged(bench, Contrary(), held_out, OUTCOMES)
    assert table.schema == pl.Schema(SCHEMA)
    assert table.height == 5 * 3
    assert table["draw"].max() == 1
    minimal = table.filter(vector="minimal")
    assert minimal["question"].to_list() == [f"Question {i}?" for i in range(3)]
    assert minimal["reply"].to_list() == [SORRY, SORRY, SURE]
    assert minimal["judge"].to_list() == [True, True, False]
    assert minimal["second"].to_list() == [True, True, True]
    assert table["prompt"].null_count() == table["answer"].null_count() == table.height


def test_a_language_models_prompts_and_answers_are_in_the_table(
    bench: Bench, held_out: HeldOut, stub_endpoint: Any, tmp_path: Path
) -> None:
    sorry = stub_endpoint.answer
    stub_endpoint.answer = lambda p: "Hm." if "(odd)" in stub_endpoint.reply(p) else sorry(p)
    endpoint = JudgeEndpoint("stub", stub_endpoint.url)
    judge = llm_judge(endpoint, "refusal", SAMPLES, SAMPLES, bench.journal.once)
    asking = Bench(
        bench.journal, POINT, bench.damage, 0.1, bench.model, bench.classifier, asked=judge
    )
    outcomes = {"minimal": outcome((SORRY, SURE + " (odd)", ""))}
    asking.judge.shows(QUESTIONS, outcomes["minimal"].replies)
    before = len(stub_endpoint.asked)
    table = judged(asking, TextJudge(bench.classifier), held_out, outcomes)
    assert len(stub_endpoint.asked) == before  # the journal knows
    assert table["judge"].to_list() == [True, None, False]
    assert table["answer"].to_list() == ["Yes.", "Hm.", None]
    assert stub_endpoint.reply(table["prompt"][0]) == SORRY
    assert table["second"].to_list() == [True, False, False]
    facts = judge_facts(asking.judge, table)
    assert (facts["kind"], facts["model"], facts["url"]) == ("llm", "stub", stub_endpoint.url)
    assert (facts["n_replies"], facts["unjudged"]) == (3, 1)
    assert facts["way_out"] is None
    assert second_opinion(TextJudge(bench.classifier), table)["n_replies"] == 2


def test_judges_of_one_mind_agree_on_all(bench: Bench, held_out: HeldOut) -> None:
    table = judged(bench, TextJudge(bench.classifier), held_out, OUTCOMES)
    found = second_opinion(TextJudge(bench.classifier), table)
    assert found["agreement"]["value"] == 1.0
    assert found["agreement"]["low"] < 0.7  # three questions prove little
    assert found["kappa"] == pytest.approx(1.0)
    assert found["rates"]["minimal"]["judge"] == found["rates"]["minimal"]["second"]


def test_agreement_kappa_and_rates_follow_from_the_table(bench: Bench, held_out: HeldOut) -> None:
    table = judged(bench, Contrary(), held_out, OUTCOMES)
    found = second_opinion(Contrary(), table)
    assert set(found["rates"]) == set(COMPARED)
    assert found["agreement"]["value"] == pytest.approx(6 / 15)
    rates = (4 / 15, 13 / 15)  # of yes
    chance = rates[0] * rates[1] + (1 - rates[0]) * (1 - rates[1])
    assert found["kappa"] == pytest.approx((6 / 15 - chance) / (1 - chance))
    assert found["rates"]["dense_mean_difference"]["judge"]["value"] == pytest.approx(1 / 3)
    assert found["rates"]["dense_mean_difference"]["second"]["value"] == 1.0
    assert found["rates"]["unsteered"]["judge"]["value"] == 0.0


def test_judges_that_never_say_yes_have_no_kappa(bench: Bench, held_out: HeldOut) -> None:
    quiet = {name: outcome((SURE, SURE, SURE)) for name in COMPARED}
    second = TextJudge(bench.classifier)
    found = second_opinion(second, judged(bench, second, held_out, quiet))
    assert found["kappa"] is None
    assert found["agreement"]["value"] == 1.0


def test_without_questions_there_is_nothing_to_agree_on(
    bench: Bench, held_out: HeldOut, tiny_model: LanguageModel
) -> None:
    none = HeldOut(held_out.margin, (), held_out.damage)
    table = judged(bench, Contrary(), none, {name: outcome(()) for name in COMPARED})
    found = second_opinion(Contrary(), table)
    assert found["n_replies"] == 0
    assert found["agreement"]["value"] is None
    assert found["agreement"]["reason"]
    assert found["kappa"] is None
    assert found["rates"]["minimal"]["judge"]["value"] is None


def test_a_classifiers_facts_say_what_helps_where_it_cannot_judge(bench: Bench) -> None:
    table = pl.DataFrame(schema=SCHEMA)
    assert judge_facts(TextJudge(bench.classifier), table)["trained_on"] == 12
    assert judge_facts(Contrary(), table)["way_out"] == "none"
