"""Fluency: perplexity to the unsteered model, and repetition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.pairs import Message
from trimtab.steering import fluency
from trimtab.steering.fluency import repetition, reply_nats

REPLIES = ["Yes.", "", "I think that you should not do this.", " \n", "No, of course not!" * 5]


def ask(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


ASKED = [ask("Why?"), ask("And?"), ask("What is the answer to the question?"), ask("So?"), ()]


def by_hand(
    model: LanguageModel, conversation: tuple[Message, ...], reply: str, *, chat: bool
) -> float:
    rendered = render(model, conversation, reply, chat=chat)
    ids = torch.tensor([rendered.ids])
    with torch.no_grad():
        logprobs = model.module(input_ids=ids).logits[0].float().log_softmax(-1)
    written = range(rendered.n_prompt, len(rendered.ids))
    return -float(np.mean([float(logprobs[i - 1, rendered.ids[i]]) for i in written]))


@pytest.mark.parametrize("chat", [True, False])
def test_nats_are_those_of_a_plain_forward_pass(family_model: LanguageModel, chat: bool) -> None:
    found = reply_nats(family_model, ASKED, REPLIES, chat=chat)
    for i, (conversation, reply) in enumerate(zip(ASKED, REPLIES, strict=True)):
        if reply.strip():
            expected = by_hand(family_model, conversation, reply, chat=chat)
            assert found[i] == pytest.approx(expected, abs=1e-4)
        else:
            assert math.isnan(found[i])


def test_small_batches_give_the_same_nats(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = reply_nats(tiny_model, ASKED, REPLIES)
    monkeypatch.setattr(fluency, "REPLY_TOKENS_PER_BATCH", 1)
    np.testing.assert_allclose(reply_nats(tiny_model, ASKED, REPLIES), together, atol=1e-5)


def test_no_replies_have_no_nats(tiny_model: LanguageModel) -> None:
    assert reply_nats(tiny_model, [], []).shape == (0,)
    assert np.isnan(reply_nats(tiny_model, ASKED[:2], ["", ""])).all()


@pytest.mark.parametrize(
    ("reply", "share"),
    [
        ("", 0.0),
        ("two words", 0.0),
        ("every word is said but once", 0.0),
        ("no no no no no", 2 / 3),
        ("I do I DO i do", 0.5),
    ],
)
def test_repetition_is_the_share_of_triples_that_came_before(reply: str, share: float) -> None:
    assert repetition([reply]).tolist() == [pytest.approx(share)]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab ", max_size=60), max_size=4))
def test_repetition_lies_between_none_and_all(replies: list[str]) -> None:
    found = repetition(replies)
    assert found.shape == (len(replies),)
    assert ((found >= 0) & (found < 1)).all()


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=3), st.integers(2, 4))
def test_a_reply_said_again_repeats_itself_more(words: list[str], times: int) -> None:
    once, again = repetition([" ".join(words), " ".join(words * times)])
    assert again > once
