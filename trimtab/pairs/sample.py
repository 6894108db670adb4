"""What a contrast pair is: a prompt with a completion that shows a behaviour and one that does not.

A sample with only one side is a signed unpaired text; nothing is ever paired with it.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from trimtab.errors import PairsError

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": ...}`"""

Side = Literal["positive", "negative"]
ROLES = ("system", "user", "assistant")

_LETTER = re.compile(r"\s*\(?\s*([A-Z])\s*\)?[.:]?\s*")


@dataclass(frozen=True, slots=True)
class Sample:
    """A contrast pair; or, with one side `None`, a signed unpaired text.

    `messages` is the dialogue that the completions answer; it is empty for a raw text. `group` is
    what a split never tears apart; it is empty until `trimtab.pairs.assign_groups` fills it.

    Raises `PairsError` when no side is there, a side is empty, both sides are the same, a text is
    not valid Unicode, or the messages are not a dialogue that a completion can answer.
    """

    id: str
    behavior: str
    messages: tuple[Message, ...]
    positive: str | None
    negative: str | None
    group: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_messages(self.messages)
        if not self.sides:
            raise PairsError("neither a positive nor a negative completion; give at least one")
        for side, text in self.sides:
            if not text.strip():
                raise PairsError(f"the {side} completion is empty; fill it in or drop the row")
            _check_unicode(text, f"the {side} completion")
        if self.is_pair and self.positive.strip() == self.negative.strip():  # type: ignore[union-attr]
            raise PairsError(
                "the positive and the negative completion are the same, so they contrast nothing;"
                " change one or drop the row"
            )

    @property
    def prompt(self) -> str:
        """The last user message's content; empty for a raw text."""
        users = [message["content"] for message in self.messages if message["role"] == "user"]
        return users[-1] if users else ""

    @property
    def is_pair(self) -> bool:
        """Whether both sides are there."""
        return self.positive is not None and self.negative is not None

    @property
    def sides(self) -> tuple[tuple[Side, str], ...]:
        """The sides that are there, positive first."""
        sides: tuple[tuple[Side, str | None], ...] = (
            ("positive", self.positive),
            ("negative", self.negative),
        )
        return tuple((side, text) for side, text in sides if text is not None)

    @property
    def single_letter(self) -> bool:
        """Whether every side is a one-letter answer such as "(A)", "A" or " B"."""
        return all(choice_letter(text) for _, text in self.sides)

    def content_hash(self) -> str:
        """Sha-256, in hex, of everything that reaches the model: messages and both completions."""
        messages = [[message["role"], message["content"]] for message in self.messages]
        content = json.dumps([messages, self.positive, self.negative])
        return hashlib.sha256(content.encode()).hexdigest()


def choice_letter(answer: str) -> str | None:
    """The letter that an answer such as " (A)" or "B." names; `None` when it is none."""
    match = _LETTER.fullmatch(answer)
    return match[1] if match else None


def normalise_prompt(text: str) -> str:
    """Fold case, punctuation, white space and compatibility forms: the default grouping key.

    A text of nothing but punctuation keeps it, so that "?" and "!" stay apart.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    folded = "".join(map(_fold, text))
    return " ".join(folded.split()) or " ".join(text.split())


@cache
def _fold(character: str) -> str:
    # Symbols stay ("2 + 2" is not "2 = 2"), and so do combining marks, which \w would split off.
    return " " if unicodedata.category(character)[0] in "PZC" else character


def _check_messages(messages: tuple[Message, ...]) -> None:
    for number, message in enumerate(messages, start=1):
        if set(message) != {"role", "content"} or message["role"] not in ROLES:
            raise PairsError(
                f"message {number} must have a role ({', '.join(ROLES)}) and content,"
                f" not {message!r}"
            )
        if not isinstance(message["content"], str):
            raise PairsError(f"the content of message {number} must be text")
        _check_unicode(message["content"], f"message {number}")
    if messages and messages[-1]["role"] != "user":
        raise PairsError(
            "the last message must be the user's: the completions are the assistant's answer to it"
        )


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PairsError(f"{what} is not valid Unicode: it holds half a surrogate pair") from None
