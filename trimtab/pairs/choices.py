r"""The lettered choices inside a multiple-choice question.

Layouts of CAA and of Anthropic's model-written evaluations, taken apart as

    [Human:] stem [Choices:] \n (A) ... \n (B) ... [Answer:] [Assistant: lead]

with markers "(A)", "A)", "A." or "A:" at the starts of lines, or "(A)" after a sentence's end.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.pairs.sample import Message

_TURN = re.compile(r"(?:^|\n)[ \t]*(Human|User|Assistant):[ \t]*")
_HEADER = re.compile(r"\s*\b(?:choices|options|answers|answer choices)\s*:\s*$", re.IGNORECASE)
_ANSWER = re.compile(r"\n\s*(?:the )?answer\s*:.*\Z", re.IGNORECASE | re.DOTALL)
_MARKERS = (
    re.compile(r"^[ \t]*\(([A-Z])\)[ \t]*", re.MULTILINE),
    re.compile(r"^[ \t]*([A-Z])[).:][ \t]+", re.MULTILINE),
    re.compile(r"(?<=\s)(?:(?<=[.?!:…]\s)|(?!\(A\)))\(([A-Z])\)[ \t]*"),
)


@dataclass(frozen=True, slots=True)
class Choices:
    """A question without its choices, and what each letter stands for."""

    stem: str
    texts: Mapping[str, str]


def parse_choices(question: str) -> Choices | None:
    """Take the choices out of `question`; `None` when it holds no (A), (B), ... with a text each.

    The last run of markers that starts at A counts, so a stem may speak of "(A)" itself.
    """
    for marker in _MARKERS:
        found = _last_run(list(marker.finditer(question)))
        if not found:
            continue
        ends = [match.start() for match in found[1:]] + [len(question)]
        texts = {
            match[1]: _ANSWER.sub("", question[match.end() : end]).strip()
            for match, end in zip(found, ends, strict=True)
        }
        stem = _HEADER.sub("", question[: found[0].start()]).strip()
        if all(texts.values()):
            return Choices(stem, texts)
    return None


def without_choices(question: str) -> str:
    """The question alone, or all of `question` when there are no choices in it."""
    choices = parse_choices(question)
    return choices.stem if choices and choices.stem else question


def parse_dialogue(question: str) -> tuple[tuple[Message, ...], str]:
    """Split "Human: ... Assistant: ..." into messages and the lead, the start of the last answer.

    A question without a leading "Human:" is one user message with no such lead.
    """
    turns = _TURN.split(question.strip())
    if len(turns) < 3 or turns[0].strip() or turns[1] == "Assistant":
        return ({"role": "user", "content": question.strip()},), ""
    messages = [
        {"role": "assistant" if who == "Assistant" else "user", "content": text.strip()}
        for who, text in zip(turns[1::2], turns[2::2], strict=True)
    ]
    lead = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
    return tuple(messages), lead


def _last_run(matches: list[re.Match[str]]) -> list[re.Match[str]]:
    for start in reversed(range(len(matches))):
        run = []
        for offset, match in enumerate(matches[start:]):
            if match[1] != chr(ord("A") + offset):
                break
            run.append(match)
        if len(run) >= 2:
            return run
    return []
