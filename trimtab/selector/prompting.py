"""Prompting: answered examples put before a conversation, to tell the model what is meant."""

from collections.abc import Sequence

from trimtab.pairs import Message, Sample

EXAMPLES = 3  # shown


def with_examples(messages: Sequence[Message], examples: Sequence[Sample]) -> tuple[Message, ...]:
    """Return a conversation with answered examples put before it: the prompting control.

    A system message stays first; a raw text has no prompt to put examples before.
    """
    if not messages:
        return ()
    lead = 1 if messages[0]["role"] == "system" else 0
    shown: list[Message] = []
    for sample in examples:
        shown += [*sample.messages, {"role": "assistant", "content": sample.positive or ""}]
    return (*messages[:lead], *shown, *messages[lead:])


def examples_to_show(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples whose positives the prompting control shows: the shortest few.

    A longer context costs every forward pass; samples with a system message of their own cannot
    be strung together and are passed over.
    """
    usable = [s for s in samples if s.positive and s.messages and s.messages[0]["role"] != "system"]
    return sorted(usable, key=lambda s: (len(s.prompt) + len(s.positive or ""), s.id))[:EXAMPLES]
