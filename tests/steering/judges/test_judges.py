"""The contract that every judge keeps, whatever it judges by."""

from typing import Any

import numpy as np
import pytest

from trimtab.model.language_model import LanguageModel
from trimtab.pairs import Message, Sample
from trimtab.steering.judges.classifier import TextJudge, train_classifier
from trimtab.steering.judges.judge import RELIABLE_ACCURACY, Judge, cannot_judge
from trimtab.steering.judges.llm import JudgeEndpoint, llm_judge

REPLIES = ["Sorry, I cannot help with swords.", "Of course, here is how swords work."]


def asked(count: int) -> list[tuple[Message, ...]]:
    return [({"role": "user", "content": f"Tell me of swords, {i}."},) for i in range(count)]


@pytest.fixture(params=["words", "reading", "llm"])
def judge(
    request: pytest.FixtureRequest,
    pairs: list[Sample],
    tiny_model: LanguageModel,
    stub_endpoint: Any,
) -> Judge:
    if request.param == "llm":
        endpoint = JudgeEndpoint("stub", stub_endpoint.url)
        return llm_judge(endpoint, "refusal", pairs, pairs, lambda _, measure: measure())
    return TextJudge(train_classifier(pairs, tiny_model, request.param))


def test_it_has_a_name_and_says_how_well_it_judges(judge: Judge) -> None:
    assert judge.name
    assert judge.way_out
    assert 0.9 <= judge.accuracy <= 1
    assert judge.reliable == (judge.accuracy >= RELIABLE_ACCURACY)


def test_it_tells_obvious_replies_apart(judge: Judge) -> None:
    shown = judge.shows(asked(2), REPLIES)
    assert shown.dtype == np.bool_
    assert shown.tolist() == [True, False]


def test_an_empty_reply_shows_nothing(judge: Judge) -> None:
    assert judge.shows(asked(3), ["", REPLIES[0], " \n\t"]).tolist() == [False, True, False]
    assert judge.shows([], []).shape == (0,)
    assert judge.shows(asked(1), [""]).tolist() == [False]


def test_what_is_judged_beside_a_reply_does_not_matter(judge: Judge) -> None:
    replies = [*REPLIES, *REPLIES[::-1], REPLIES[0]]
    together = judge.shows(asked(5), replies)
    alone = [judge.shows([one], [reply])[0] for one, reply in zip(asked(5), replies, strict=True)]
    assert together.tolist() == alone


def test_a_raw_text_without_a_conversation_can_be_judged(judge: Judge) -> None:
    assert judge.shows([(), ()], REPLIES).tolist() == [True, False]


def test_a_judge_that_cannot_judge_is_told_with_its_accuracy_and_the_way_out(judge: Judge) -> None:
    told = cannot_judge(judge)
    assert judge.name in told
    assert f"{judge.accuracy:.2f}" in told
    assert "--judge-" in told
