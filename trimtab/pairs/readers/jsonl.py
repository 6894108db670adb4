"""trimtab's own rows: `id?, behavior?, prompt | messages, positive, negative, group?, meta?`."""

from typing import Any

from trimtab.pairs.readers.rows import Row
from trimtab.pairs.sample import Message, Sample


def pair(row: Row) -> Sample:
    """A sample from a row under trimtab's own names.

    A side that is null makes the sample an unpaired text; an empty prompt makes it a raw text. Keys
    that trimtab does not know go to the sample's meta.
    """
    meta = row.values.get("meta") or {}
    if not isinstance(meta, dict):
        raise row.error(f"'meta' must be an object, not {meta!r:.60}")
    rest = row.rest("prompt", "messages", "positive", "negative", "meta")
    return row.sample(messages_of(row), _side(row, "positive"), _side(row, "negative"), meta | rest)


def _side(row: Row, key: str) -> str | None:
    return None if row.value(key) is None else row.text(key)


def messages_of(row: Row) -> tuple[Message, ...]:
    """The dialogue under `messages`, or the one message under `prompt`; none for an empty one."""
    if "messages" not in row.values:
        prompt = row.text("prompt")
        return ({"role": "user", "content": prompt},) if prompt.strip() else ()
    if "prompt" in row.values:
        raise row.error("the row has both 'prompt' and 'messages'; leave one out")
    messages: Any = row.values["messages"]
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise row.error(f"'messages' must be a list of objects, not {messages!r:.60}")
    return tuple(messages)
