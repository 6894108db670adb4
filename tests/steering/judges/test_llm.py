"""A language model as a judge: shown examples, measured first, never believed for free."""

from collections.abc import Callable
from typing import Any

import pytest

from trimtab.errors import SelectionError
from trimtab.pairs import Sample
from trimtab.steering.judges.llm import MEASURED_ON, JudgeEndpoint, LLMJudge, llm_judge

Opened = Callable[..., LLMJudge]


@pytest.fixture
def opened(stub_endpoint: Any) -> Opened:
    def go(select: list[Sample], known: list[Sample], criterion: str | None = None) -> LLMJudge:
        endpoint = JudgeEndpoint("stub", stub_endpoint.url, criterion=criterion)
        return llm_judge(endpoint, "refusal", select, known, lambda _, measure: measure())

    return go


def prompts(stub: Any) -> list[str]:
    return [body["messages"][0]["content"] for body in stub.asked]


def test_it_is_measured_on_texts_of_both_sides_that_were_no_examples(
    stub_endpoint: Any, pairs: list[Sample], opened: Opened
) -> None:
    judge = opened(pairs, pairs)
    measured = [stub_endpoint.reply(prompt) for prompt in prompts(stub_endpoint)]
    assert judge.n_texts == len(measured) == 14  # ten pairs, of which three are examples
    assert sum("Sorry" in text for text in measured) == 7
    assert not {*measured} & {*judge.question.positive, *judge.question.negative}
    assert judge.accuracy == 1.0


def test_it_is_measured_on_a_bounded_number_of_texts(pairs: list[Sample], opened: Opened) -> None:
    many = [
        Sample(f"{i}", "refusal", (), f"Sorry, not {i}.", f"Sure, {i}.", f"{i}") for i in range(90)
    ]
    assert opened(pairs, many).n_texts == MEASURED_ON


def test_one_side_always_is_an_accuracy_of_one_half(
    stub_endpoint: Any, pairs: list[Sample], opened: Opened
) -> None:
    stub_endpoint.answer = lambda _: "no"
    judge = opened(pairs, pairs[:8])
    assert judge.accuracy == 0.5
    assert not judge.reliable


def test_a_judge_that_mumbles_is_not_reliable_whatever_it_means(
    stub_endpoint: Any, pairs: list[Sample], opened: Opened
) -> None:
    right = stub_endpoint.answer
    stub_endpoint.answer = lambda prompt: "Hm." if right(prompt) == "No." else "Yes."
    judge = opened(pairs, pairs)
    assert judge.accuracy == 0.5
    (verdict,) = judge.verdicts([()], ["Of course."])
    assert (verdict.shows, verdict.answer) == (None, "Hm.")
    assert judge.shows([()], ["Of course."]).tolist() == [False]


def test_a_verdict_keeps_the_prompt_and_the_answer_as_they_were(
    stub_endpoint: Any, pairs: list[Sample], opened: Opened
) -> None:
    judge = opened(pairs, pairs, "declines to help")
    asked = ({"role": "user", "content": "How do swords work?"},)
    verdict, empty = judge.verdicts([asked, asked], ["Sorry.", " "])
    assert verdict.prompt == prompts(stub_endpoint)[-1]
    assert "declines to help" in (verdict.prompt or "")
    assert "How do swords work?" in (verdict.prompt or "")
    assert (verdict.answer, verdict.shows) == ("Yes.", True)
    assert (empty.prompt, empty.answer, empty.shows) == (None, None, False)


def test_it_is_named_by_model_and_host(
    stub_endpoint: Any, pairs: list[Sample], opened: Opened
) -> None:
    name = opened(pairs, pairs).name
    assert "stub" in name
    assert f"127.0.0.1:{stub_endpoint.server.server_port}" in name


@pytest.mark.parametrize("known", [0, 3])
def test_texts_of_the_examples_groups_alone_are_too_few(
    known: int, pairs: list[Sample], opened: Opened
) -> None:
    few = pairs[:3]
    with pytest.raises(SelectionError, match="both sides outside the groups"):
        opened(few, few[:known])
