"""CAA's data sets and Anthropic's model-written evaluations, with the answers as they stand.

Rows hold `question`, `answer_matching_behavior` and `answer_not_matching_behavior`; CAA's MMLU
calls them `prompt`, `correct` and `incorrect`. Answers are letters, or " Yes" and " No" (personas).
Sources: Rimsky et al. 2024, arXiv:2312.06681; Perez et al. 2022, arXiv:2212.09251.
"""

from trimtab.pairs.choices import parse_dialogue
from trimtab.pairs.readers.rows import Row
from trimtab.pairs.sample import Sample

QUESTION = ("question", "prompt")
MATCHING = ("answer_matching_behavior", "correct")
NOT_MATCHING = ("answer_not_matching_behavior", "incorrect")


def letters(row: Row) -> Sample:
    """A sample whose prompt keeps the choices and whose completions are the answers as they are.

    "Human:" and "Assistant:" around the question become messages; the start of an answer after
    "Assistant:" goes to meta as `lead`. Of several answers that do not match (philpapers2020 lists
    them), the first is taken and the others go to meta as `other_negatives`.
    """
    messages, lead = parse_dialogue(row.text(_key(row, QUESTION)))
    positive, *_ = _answers(row, _key(row, MATCHING))
    negative, *others = _answers(row, _key(row, NOT_MATCHING))
    meta = row.rest(*QUESTION, *MATCHING, *NOT_MATCHING)
    if lead:
        meta["lead"] = lead
    if others:
        meta["other_negatives"] = others
    return row.sample(messages, positive, negative, meta)


def _key(row: Row, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in row.values), names[0])


def _answers(row: Row, key: str) -> list[str]:
    value = row.value(key)
    answers = value if isinstance(value, list) else [value]
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise row.error(f"{key!r} must be text or a list of texts, not {value!r:.60}")
    return answers
