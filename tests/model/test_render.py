from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from trimtab.errors import ModelError
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render, render_prompt

ASK = [{"role": "user", "content": "Should I do this?"}]

# texts that merge across boundaries: white space, halves of words, punctuation, special tokens
tricky = st.lists(
    st.sampled_from(
        [" ", "\n", "\t", "a", "th", "e", " the", "(", "A", ")", "é", "日本", "🙂", "'s"]
    )
    | st.sampled_from(["<|im_end|>", "<|im_start|>", "user", "  ", "\r\n", "0", "12"])
    | st.text(max_size=3),
    max_size=8,
).map("".join)
turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": tricky}),
    max_size=3,
)
on_the_real_tokenizer = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@on_the_real_tokenizer
@given(messages=turns, completion=tricky, chat=st.booleans())
def test_the_boundary_between_prompt_and_completion_is_exact(
    default_model: LanguageModel,
    messages: list[dict[str, str]],
    completion: str,
    chat: bool,
) -> None:
    tokenizer = default_model.tokenizer
    alone = tokenizer(completion, add_special_tokens=False).input_ids
    assume(tokenizer.decode(alone) == completion)  # some bytes have no token in this vocabulary
    prompt = render_prompt(default_model, messages, chat=chat)
    rendered = render(default_model, messages, completion, chat=chat)
    assert rendered.n_prompt == len(prompt) > 0
    assert rendered.ids[: rendered.n_prompt] == prompt
    assert tokenizer.decode(rendered.ids[rendered.n_prompt :]) == completion


@on_the_real_tokenizer
@given(completion=tricky)
def test_the_completion_is_tokenised_in_place_wherever_the_prompt_allows(
    default_model: LanguageModel, completion: str
) -> None:
    prompt = render_prompt(default_model, ASK)
    whole = default_model.tokenizer.decode(prompt) + completion
    joint = tuple(default_model.tokenizer(whole, add_special_tokens=False).input_ids)
    if joint[: len(prompt)] == prompt:
        assert render(default_model, ASK, completion).ids == joint


def test_the_default_models_prompt_is_its_own_chat_format(default_model: LanguageModel) -> None:
    text = default_model.tokenizer.decode(render_prompt(default_model, ASK))
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nShould I do this?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_completion_that_would_merge_into_the_prompt_is_tokenised_by_itself(
    tiny_model: LanguageModel,
) -> None:
    ask = [{"role": "user", "content": "I thin"}]
    prompt = render_prompt(tiny_model, ask, chat=False)
    rendered = render(tiny_model, ask, "k", chat=False)
    merged = tuple(tiny_model.tokenizer("I think").input_ids)
    assert merged[: len(prompt)] != prompt, "the tokenizer was to merge here"
    assert rendered.ids[: len(prompt)] == prompt
    assert tiny_model.tokenizer.decode(rendered.ids) == "I think"


def test_a_system_prompt_goes_first_unless_the_messages_bring_one(
    tiny_model: LanguageModel,
) -> None:
    own = [{"role": "system", "content": "Mine."}, *ASK]
    decode = tiny_model.tokenizer.decode
    assert decode(render_prompt(tiny_model, ASK, system="Be kind.")).startswith(
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
    )
    assert "Be kind." not in decode(render_prompt(tiny_model, own, system="Be kind."))
    raw = render_prompt(tiny_model, ASK, chat=False, system="Be kind.")
    assert decode(raw) == "Be kind.\n\nShould I do this?"


@pytest.mark.parametrize("chat", [True, False])
def test_without_messages_a_completion_is_raw_text_after_one_token(
    tiny_model: LanguageModel, chat: bool
) -> None:
    rendered = render(tiny_model, (), "I think", chat=chat, system="ignored")
    assert rendered.n_prompt == 1
    assert rendered.ids[0] == tiny_model.tokenizer.bos_token_id
    assert tiny_model.tokenizer.decode(rendered.ids[1:]) == "I think"


def test_a_text_that_starts_with_the_start_token_loses_nothing(tiny_model: LanguageModel) -> None:
    rendered = render(tiny_model, (), "<|im_start|>I")
    assert tiny_model.tokenizer.decode(rendered.ids[rendered.n_prompt :]) == "<|im_start|>I"


def test_an_empty_completion_has_no_tokens(tiny_model: LanguageModel) -> None:
    for chat in (True, False):
        rendered = render(tiny_model, ASK, "", chat=chat)
        assert len(rendered.ids) == rendered.n_prompt > 0


def with_start_token(model: LanguageModel) -> LanguageModel:
    """The model with a tokenizer that starts every text with its start token, as Llama's does."""
    backend = model.tokenizer.backend_tokenizer
    copy = PreTrainedTokenizerFast(
        tokenizer_object=type(backend).from_str(backend.to_str()),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
    )
    copy.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", copy.bos_token_id)]
    )
    copy.chat_template = model.tokenizer.chat_template
    return replace(model, tokenizer=copy)


def test_a_start_token_comes_exactly_once(tiny_model: LanguageModel) -> None:
    model = with_start_token(tiny_model)
    start = model.tokenizer.bos_token_id
    assert render_prompt(model, ASK, chat=False)[0] == start
    assert render_prompt(model, ASK, chat=False).count(start) == 1
    assert render_prompt(model, ASK) == render_prompt(tiny_model, ASK)
    assert render(model, (), "I think").ids.count(start) == 1


def with_template(model: LanguageModel, template: str | None) -> LanguageModel:
    copy = with_start_token(model)
    copy.tokenizer.chat_template = template
    return copy


def test_a_template_that_takes_no_system_prompt_is_named_with_the_way_out(
    tiny_model: LanguageModel,
) -> None:
    template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(ModelError, match=r"System role not supported.*leave the system prompt out"):
        render_prompt(with_template(tiny_model, template), ASK, system="Be kind.")


def test_a_model_without_a_template_is_asked_for_raw_prompts(tiny_model: LanguageModel) -> None:
    bare = with_template(tiny_model, None)
    with pytest.raises(ModelError, match=r"no chat template.*chat=False"):
        render(bare, ASK, "Yes")
    assert render(bare, ASK, "Yes", chat=False).n_prompt > 0


def test_a_template_that_prints_the_date_gives_the_same_prompt_every_day(
    tiny_model: LanguageModel,
) -> None:
    template = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}"
    text = tiny_model.tokenizer.decode(render_prompt(with_template(tiny_model, template), ASK))
    assert text == "26 Jul 2024"
