"""Messages and completions as token ids, with an exact boundary between the two.

A prompt's ids never depend on what follows it: runs of one prompt with two completions share the
prompt's key/value cache, and positions before the completion mean the same in both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trimtab.errors import ModelError

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel

# Llama 3's templates print today's date unless given one; a prompt must not change overnight.
DATE = "26 Jul 2024"


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids of a prompt and its completion; `ids[:n_prompt]` are the prompt's."""

    ids: tuple[int, ...]
    n_prompt: int


def render_prompt(
    model: "LanguageModel",
    messages: Sequence[Mapping[str, str]],
    *,
    chat: bool = True,
    system: str | None = None,
) -> tuple[int, ...]:
    """Token ids of the prompt: never none, there is always a token before the completion.

    Args:
        model: whose tokenizer and chat template are used.
        messages: `{"role": ..., "content": ...}`; none at all: the completion is raw text.
        chat: use the model's chat template, up to where its reply begins. Otherwise the contents
            are joined by blank lines, after the token that the tokenizer starts a text with.
        system: a system prompt for messages that bring none. With None the template's own default
            stays, if it has one.

    Raises:
        ModelError: the model has no chat template, or its template refuses these messages.
    """
    text, lead = _prompt_text(model, messages, chat, system)
    return lead + _encode(model, text)


def render(
    model: "LanguageModel",
    messages: Sequence[Mapping[str, str]],
    completion: str,
    *,
    chat: bool = True,
    system: str | None = None,
) -> Rendered:
    """Token ids of prompt and completion; arguments and errors as in `render_prompt`.

    The prompt's ids are exactly those of `render_prompt`. The completion's are what the tokenizer
    makes of it *in place* where that leaves the prompt's ids alone; where it would merge across the
    boundary, the completion is tokenised by itself.
    """
    text, lead = _prompt_text(model, messages, chat, system)
    prompt = lead + _encode(model, text)
    joint = lead + _encode(model, text + completion)
    if joint[: len(prompt)] != prompt:
        joint = prompt + _encode(model, completion)
    return Rendered(joint, len(prompt))


def _prompt_text(
    model: "LanguageModel", messages: Sequence[Mapping[str, str]], chat: bool, system: str | None
) -> tuple[str, tuple[int, ...]]:
    """The prompt's text, and the ids that stand before those of the text."""
    turns = [dict(message) for message in messages]
    if turns and system is not None and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": system})
    if not (chat and turns):
        text = "\n\n".join(turn["content"] for turn in turns)
        return text, _first_ids(model, text)
    if model.tokenizer.chat_template is None:
        raise ModelError(f"model {model.name} has no chat template; use raw prompts (chat=False)")
    from jinja2.exceptions import TemplateError

    try:
        text = model.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, date_string=DATE
        )
    except TemplateError as error:
        raise ModelError(
            f"the chat template of {model.name} refuses the messages: {error}; "
            "leave the system prompt out if it takes none, or use raw prompts (chat=False)"
        ) from error
    return text, ()  # the template wrote the special tokens itself


def _first_ids(model: "LanguageModel", text: str) -> tuple[int, ...]:
    """The token that the tokenizer starts a text with, if it does, or that an empty text needs."""
    tokenizer: Any = model.tokenizer
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    always = first is not None and tokenizer("").input_ids[:1] == [first]
    if always or not _encode(model, text):
        return (model.pad_id if first is None else first,)
    return ()


def _encode(model: "LanguageModel", text: str) -> tuple[int, ...]:
    return tuple(model.tokenizer(text, add_special_tokens=False).input_ids)
