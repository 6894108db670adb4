"""Asking an endpoint: once a question, with one clear line where it fails, and no key anywhere."""

import sys
from typing import Any

import numpy as np
import pytest

from trimtab.errors import EndpointError
from trimtab.model import endpoint as module
from trimtab.model.endpoint import FILTERED, Connection, Endpoint

SECRET = "sk-secret-0123456789"


def connect(stub: Any, kept: dict[Any, Any] | None = None) -> Connection:
    memory: dict[Any, Any] = {} if kept is None else kept

    def remember(key: tuple[Any, ...], measure: Any) -> Any:
        if key not in memory:
            memory[key] = measure()
        return memory[key]

    return Connection(Endpoint("stub", stub.url), remember)


def test_embeddings_come_in_the_order_of_their_texts_at_unit_length(stub_endpoint: Any) -> None:
    stub_endpoint.embedding = lambda text: [3.0 * len(text), 4.0 * len(text), float(text == "bb")]
    found = connect(stub_endpoint).embed(["a", "bb", "ccc"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
    np.testing.assert_allclose(found[0], [0.6, 0.8, 0.0])
    assert found[1][2] > 0


def test_an_endpoint_that_embeds_nothing_is_an_error_that_names_its_option(
    stub_endpoint: Any,
) -> None:
    endpoint = Endpoint("stub", stub_endpoint.url.removesuffix("/v1"), role="embed")
    with pytest.raises(EndpointError, match="--embed-url"):
        Connection(endpoint, lambda _, measure: measure()).embed(["a"])


def failing(stub: Any, status: int, **error: Any) -> str:
    stub.answer = lambda _: (status, {"message": "the server's words", **error})
    with pytest.raises(EndpointError) as caught:
        connect(stub).ask(["?"])
    return str(caught.value)


def test_every_prompt_gets_its_own_answer_and_is_asked_once(stub_endpoint: Any) -> None:
    stub_endpoint.answer = lambda prompt: prompt * 2
    prompts = [str(i % 30) for i in range(60)]
    assert connect(stub_endpoint).ask(prompts) == [prompt * 2 for prompt in prompts]
    assert len(stub_endpoint.asked) == 30
    assert {body["model"] for body in stub_endpoint.asked} == {"stub"}
    assert {body["temperature"] for body in stub_endpoint.asked} == {0}
    assert connect(stub_endpoint).ask([]) == []


def test_what_was_answered_before_is_not_asked_again(stub_endpoint: Any) -> None:
    kept: dict[Any, Any] = {}
    stub_endpoint.answer = lambda prompt: (500, {"message": "down"}) if prompt == "c" else "ok"
    with pytest.raises(EndpointError):
        connect(stub_endpoint, kept).ask(["a", "b", "c"])
    stub_endpoint.answer = lambda _: "late"
    assert connect(stub_endpoint, kept).ask(["a", "b", "c"]) == ["ok", "ok", "late"]
    assert {"prompt": "a", "answer": "ok"} in kept.values()


def test_the_key_comes_from_the_environment_and_shows_nowhere(
    stub_endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    kept: dict[Any, Any] = {}
    stub_endpoint.answer = lambda _: "yes"
    connect(stub_endpoint, kept).ask(["?"])
    assert stub_endpoint.keys == [f"Bearer {SECRET}"]
    assert SECRET not in repr(kept)
    for status in (400, 401, 403, 404, 429, 500):
        assert SECRET not in failing(stub_endpoint, status, message=f"{SECRET} is not welcome")


def test_a_line_break_behind_the_key_is_none_of_it(
    stub_endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\n")
    connect(stub_endpoint).ask(["?"])
    assert stub_endpoint.keys == [f"Bearer {SECRET}"]


@pytest.mark.parametrize("key", [f"{SECRET}\nmore", f"{SECRET}é", f"{SECRET}\x1b[31m"])
def test_what_is_no_key_is_refused_without_being_shown(
    stub_endpoint: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EndpointError, match="OPENAI_API_KEY") as caught:
        connect(stub_endpoint)
    assert SECRET not in str(caught.value)


def test_a_wrong_key_is_told_by_the_name_of_its_variable(
    stub_endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "needs a key: set OPENAI_API_KEY" in failing(stub_endpoint, 401)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert "does not accept the key in OPENAI_API_KEY" in failing(stub_endpoint, 401)


def test_an_unknown_model_is_told_by_its_name(stub_endpoint: Any) -> None:
    told = failing(stub_endpoint, 404, code="model_not_found")
    assert "no model 'stub'" in told
    assert "the server's words" in told
    assert "--judge-model" in told


def test_other_refusals_are_told_in_the_servers_words_on_one_line(stub_endpoint: Any) -> None:
    told = failing(stub_endpoint, 429, message="slow\ndown \x1b[31m" + "!" * 1000)
    assert "slow" in told
    assert "run the same command again" in told
    assert len(told) < 600
    assert told.isprintable()


def test_an_endpoint_that_is_not_there_is_told_by_its_url(
    stub_endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint("stub", "http://127.0.0.1:1/v1")
    with pytest.raises(
        EndpointError, match=r"http://127\.0\.0\.1:1/v1 cannot be reached.*--judge-url"
    ):
        Connection(endpoint, lambda _, measure: measure()).ask(["?"])


def test_a_url_that_lacks_its_end_is_told(stub_endpoint: Any) -> None:
    endpoint = Endpoint("stub", stub_endpoint.url.removesuffix("/v1"))
    with pytest.raises(EndpointError, match="--judge-url"):
        Connection(endpoint, lambda _, measure: measure()).ask(["?"])


@pytest.mark.parametrize(
    "url", ["localhost:8000", "", "ftp://there/v1", "http://", "http://h:port/v1", "http://[::1/v1"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(EndpointError, match="is not a URL such as"):
        Endpoint("stub", url)


@pytest.mark.parametrize("url", ["me:secret@there:80/v1", "there/v1?key=secret"])
def test_what_is_no_url_but_may_hold_a_secret_is_not_repeated(url: str) -> None:
    with pytest.raises(EndpointError, match="is not a URL such as") as caught:
        Endpoint("stub", url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://me:secret@there/v1", "https://there/v1?key=secret"])
def test_a_url_with_a_secret_in_it_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(EndpointError, match="OPENAI_API_KEY") as caught:
        Endpoint("stub", url)
    assert "secret" not in str(caught.value)


def test_options_that_a_model_refuses_are_left_out_from_then_on(stub_endpoint: Any) -> None:
    def picky(_: str) -> Any:
        for name in ("temperature", "max_tokens"):
            if name in stub_endpoint.asked[-1]:
                return 400, {"message": f"Unsupported parameter: '{name}'", "code": "unsupported"}
        return "yes"

    stub_endpoint.answer = picky
    connection = connect(stub_endpoint)
    assert connection.ask(["a"]) == ["yes"]
    assert len(stub_endpoint.asked) == 3
    assert connection.ask(["b"]) == ["yes"]
    assert len(stub_endpoint.asked) == 4


@pytest.mark.parametrize(
    "error",
    [
        {"message": "no", "param": "temperature"},
        {"message": "Unrecognized request argument supplied: temperature"},
        {"message": "`temperature` is deprecated for this model."},
        {"message": "temperature: Extra inputs are not permitted"},
    ],
)
def test_an_option_is_refused_in_many_words(stub_endpoint: Any, error: dict[str, str]) -> None:
    stub_endpoint.answer = lambda _: (
        (400, error) if "temperature" in stub_endpoint.asked[-1] else "yes"
    )
    assert connect(stub_endpoint).ask(["a"]) == ["yes"]
    assert "max_tokens" in stub_endpoint.asked[-1]


@pytest.mark.parametrize("param", [None, "messages"])
def test_an_echo_of_what_was_asked_refuses_no_option(stub_endpoint: Any, param: str | None) -> None:
    told = failing(stub_endpoint, 400, message="Too long: 'What temperature is it?'", param=param)
    assert "Too long" in told
    assert len(stub_endpoint.asked) == 1


def test_a_question_that_a_filter_swallows_does_not_stop_the_run(stub_endpoint: Any) -> None:
    stub_endpoint.answer = lambda prompt: (
        (400, {"message": "filtered", "code": "content_filter"}) if prompt == "bad" else "no"
    )
    assert connect(stub_endpoint).ask(["bad", "good"]) == [FILTERED, "no"]


def test_an_answer_without_words_is_an_empty_one(stub_endpoint: Any) -> None:
    stub_endpoint.answer = lambda _: None
    assert connect(stub_endpoint).ask(["?"]) == [""]


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(EndpointError, match=r"pip install 'trimtab\[endpoint\]'"):
        Connection(Endpoint("stub", "http://there/v1"), lambda _, measure: measure())


def test_an_unreliable_network_is_given_several_chances() -> None:
    assert module.RETRIES > 0
