"""The same files as `caa`, with the choices spelled out as the completions."""

from trimtab.pairs.choices import parse_choices
from trimtab.pairs.readers.caa import letters
from trimtab.pairs.readers.rows import Row
from trimtab.pairs.sample import Sample, choice_letter

POSITIVE_CHOICE = "positive_choice"
"""Key of a sample's `meta`: the letter under which its positive answer stood."""


def spelled(row: Row) -> Sample:
    """A sample whose prompt is the question alone and whose completions are the choices' texts."""
    lettered = letters(row)
    choices = parse_choices(lettered.prompt)
    if choices is None or not choices.stem:
        raise row.error(
            "the question has no choices that can be taken out, such as lines '(A) ...' and"
            " '(B) ...' after it; correct the row, or read the file with format='caa', which takes"
            " the answers as they are"
        )
    texts, named = [], []
    for _, answer in lettered.sides:
        letter = choice_letter(answer)
        if letter is None or letter not in choices.texts:
            raise row.error(
                f"the answer {answer!r} names none of the choices ({', '.join(choices.texts)});"
                " correct the row, or read the file with format='caa', which takes the answers as"
                " they are"
            )
        texts.append(choices.texts[letter])
        named.append(letter)
    messages = (*lettered.messages[:-1], {"role": "user", "content": choices.stem})
    positive, negative = texts
    meta = {**lettered.meta, POSITIVE_CHOICE: named[0]}
    return row.sample(messages, positive, negative, meta)
