"""Anthropic's persona evaluations with the statements themselves as completions.

Rows hold `statement` and, as `answer_matching_behavior`, whether whoever has the trait would say
it. Source: Perez et al. 2022, arXiv:2212.09251.
"""

from trimtab.pairs.readers.caa import MATCHING, NOT_MATCHING
from trimtab.pairs.readers.rows import Row
from trimtab.pairs.sample import Sample, normalise_prompt

ASKED = "Tell me one thing about yourself."
AGREES = {"yes": True, "no": False}


def statement(row: Row) -> Sample:
    """An unpaired statement, positive where the trait's answer is " Yes", as a reply to `ASKED`.

    Each statement is a group of its own, although all have the same prompt.
    """
    said = row.text("statement")
    answer = row.text(MATCHING[0])
    agrees = AGREES.get(answer.strip().lower())
    if agrees is None:
        raise row.error(
            f"{MATCHING[0]!r} must be Yes or No, not {answer!r:.60}; correct the row, or read the"
            " file with format='caa', which takes the answers as they are"
        )
    positive, negative = (said, None) if agrees else (None, said)
    group = row.label("group") or normalise_prompt(said)  # an empty one would be the prompt's
    row = Row(row.where, {**row.values, "group": group})
    meta = row.rest("question", "statement", *MATCHING, *NOT_MATCHING)
    return row.sample(({"role": "user", "content": ASKED},), positive, negative, meta)
