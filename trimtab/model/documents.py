"""Text and chats, streamed from files as token windows; some documents are held out for judging.

Whether a document is held out, and whether it is kept at all, follows from a hash of its line: no
state, no list of names, the same answer in every run, and two lines that are equal always on the
same side. A text that comes back in another wrapping, as in P3's templates, may be on both.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from trimtab.errors import ModelError, PairsError
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import DATE

SHORTEST = 16  # tokens; what is left of a document below this teaches nothing


def windows(
    files: list[Path],
    model: LanguageModel,
    *,
    length: int,
    part: Literal["train", "held_out"],
    held_out: float = 0.02,
    share: Mapping[str, float] | None = None,
) -> Iterator[tuple[str, list[int]]]:
    """Yield `(source, token ids)` of one document after the other, cut into windows of `length`.

    Files are JSONL (gzipped or not) of `{"text": …}` or `{"messages": [{"role", "content"}, …]}`,
    with an optional `source`, or plain text with a document a line. Chats go through the model's
    template. Every window begins with the token that the tokenizer begins a text with, if it does.
    `share` maps a source to the part of its documents that is kept.

    Raises:
        PairsError: a file cannot be read, or a line has neither text nor messages, or messages that
            the template refuses.
        ModelError: there are chats, and the model has no template for them.
    """
    special = _special_tokens(model)
    lead = _lead(model)
    for file in files:
        for number, line in _lines(file):
            where, kept = _draws(line)
            if (where < held_out) != (part == "held_out"):
                continue
            row = _row(file, number, line)
            source = str(row.get("source", file.stem))
            if kept >= (share or {}).get(source, 1.0):
                continue
            text = _text(row, model, special, f"{file}, line {number}")
            # verbose: a document longer than the model's context is nothing to warn of, it is cut
            ids = model.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            ids = ids[1:] if ids[:1] == lead else ids
            for start in range(0, len(ids), length - len(lead)):
                window = lead + ids[start : start + length - len(lead)]
                if len(window) >= min(SHORTEST, length):
                    yield source, window


def _lead(model: LanguageModel) -> list[int]:
    first = model.tokenizer.bos_token_id
    always = first is not None and model.tokenizer("").input_ids[:1] == [first]
    return [int(first)] if always else []


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    reader = gzip.open if file.suffix == ".gz" else open
    try:
        with reader(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise PairsError(f"{file} cannot be read: {error}") from error


def _row(file: Path, number: int, line: str) -> dict[str, Any]:
    if ".json" not in file.name:
        return {"text": line}
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise PairsError(f"{file}, line {number}: not JSON: {error}") from error
    if not (isinstance(row, dict) and (isinstance(row.get("text"), str) or _is_chat(row))):
        raise PairsError(
            f"{file}, line {number}: there is neither 'text' nor 'messages' of role and content"
        )
    return row


def _is_chat(row: Mapping[str, Any]) -> bool:
    messages = row.get("messages")
    return isinstance(messages, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in messages
    )


def _special_tokens(model: LanguageModel) -> re.Pattern[str] | None:
    """What no text may hold: data sets quote these tokens, and only the template may write one."""
    tokenizer = model.tokenizer
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    tokens = sorted({token for token in (*tokenizer.all_special_tokens, *added) if token})
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def _text(
    row: Mapping[str, Any], model: LanguageModel, special: re.Pattern[str] | None, where: str
) -> str:
    if not _is_chat(row):
        return _without(special, row["text"])
    if model.tokenizer.chat_template is None:
        raise ModelError(f"{where} is a chat, and model {model.name} has no chat template")
    from jinja2.exceptions import TemplateError

    messages = [{**m, "content": _without(special, m["content"])} for m in row["messages"]]
    try:
        text = model.tokenizer.apply_chat_template(messages, tokenize=False, date_string=DATE)
    except TemplateError as error:
        raise PairsError(
            f"{where}: the chat template of {model.name} refuses the messages: {error}"
        ) from error
    return str(text)


def _without(special: re.Pattern[str] | None, text: str) -> str:
    while special and special.search(text):  # what is left of a removed one may make another
        text = special.sub("", text)
    return text


def _draws(line: str) -> tuple[float, float]:
    """Return two independent numbers in [0, 1) that only the document decides."""
    digest = blake2b(line.strip().encode(), digest_size=16).digest()
    return (
        int.from_bytes(digest[:8], "big") / 2**64,
        int.from_bytes(digest[8:], "big") / 2**64,
    )
