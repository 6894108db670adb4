"""The question that a language model is asked about a reply, and how its answer is read.

Replies, prompts and examples are untrusted. They are quoted between lines that hold a mark which
none of them can hold, because it is made from all of them.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.model.prompt_template import prompt_template
from trimtab.pairs import Message, Sample, Side

TEMPLATE = "question.j2"
EXAMPLES = 3  # of a side
LONGEST = 600  # letters of an example

_WORD = r"(yes|no)"
_FIRST = re.compile(
    rf"[\W_]*(?:(?:(?:my|the|final)\s+)*answer(?:\s+is)?[\W_]+)?{_WORD}"
    r"(?=\s*(?:$|\n|[^\w\s'’-]|_)|\s+[-–—])"
)
_LAST = re.compile(rf"(?:^|[\W_]){_WORD}[\W_]*$")
_ANY = re.compile(rf"\b{_WORD}\b")


@dataclass(frozen=True)
class Question:
    """Asks whether a reply shows a behaviour.

    Attributes:
        criterion: what shows it, in words.
        positive: example texts that show it.
        negative: example texts that do not.
    """

    criterion: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    def about(self, conversation: Sequence[Message], reply: str) -> str:
        """Return the prompt that asks about one reply to a conversation, which may be empty."""
        quoted = [*self.positive, *self.negative, *(m["content"] for m in conversation), reply]
        return _TEMPLATE.render(
            criterion=self.criterion,
            positive=self.positive,
            negative=self.negative,
            conversation=conversation,
            reply=reply,
            mark=hashlib.sha256(json.dumps(quoted).encode()).hexdigest()[:16],
        )


def ask_about(behavior: str, criterion: str | None, examples: Sequence[Sample]) -> Question:
    """Return the question about a behaviour, with the completions of `examples` as examples.

    Without a criterion the behaviour's name has to do, and the examples.
    """
    default = f"what its name says, “{behavior}”, and the examples show"
    return Question(
        criterion or default, _completions(examples, "positive"), _completions(examples, "negative")
    )


def draw_examples(samples: Sequence[Sample]) -> list[Sample]:
    """Return a few samples of each side, the same ones for both where they are pairs."""
    drawn = in_random_order(samples)
    with_side = [
        [s for s in drawn if getattr(s, side) is not None][:EXAMPLES]
        for side in ("positive", "negative")
    ]
    return [s for s in drawn if any(s in some for some in with_side)]


def in_random_order(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples in an order that neither their files nor a generator's state decides."""
    return sorted(samples, key=lambda s: hashlib.sha256(s.id.encode()).digest())


def read_answer(answer: str) -> bool | None:
    """Return what a model's answer says, None where it says neither yes nor no, or both.

    The answer stands first, or last after what was thought aloud.
    """
    _, _, said = answer.rpartition("</think>")
    if "<think>" in said:  # it never came to an end
        return None
    said = said.strip().lower()
    first, last = _FIRST.match(said), _LAST.search(said)
    found = {match[1] for match in (first, last) if match}
    if first is None:  # what ends with "no" may have said "yes and" before
        found |= {*_ANY.findall(said)} if last else set()
    return found == {"yes"} if len(found) == 1 else None


def _completions(samples: Sequence[Sample], side: Side) -> tuple[str, ...]:
    texts = [text for sample in samples for of, text in sample.sides if of == side]
    return tuple(_shortened(text) for text in texts[:EXAMPLES])


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rstrip() + " …"


_TEMPLATE = prompt_template(Path(__file__).with_name(TEMPLATE))
