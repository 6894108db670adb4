"""Open questions: what a steered model is asked to write an answer to."""

from pathlib import Path

from trimtab.pairs.readers.rows import Row, read_lines, read_records

_KEYS = ("question", "prompt")


def read_questions(path: Path) -> list[str]:
    """The questions of a JSON list or JSONL (`question` or `prompt`, or bare texts), or text lines.

    Raises `PairsError` naming file and row.
    """
    path = Path(path)
    if path.suffix.lower() not in (".json", ".jsonl"):
        return [line for _, line in read_lines(path)]
    questions = []
    for where, value in read_records(path):
        row = Row(where, value if isinstance(value, dict) else {"question": value})
        key = next((key for key in _KEYS if key in row.values), _KEYS[0])
        question = row.text(key).strip()
        if not question:
            raise row.error("the question is empty; fill it in or drop the row")
        questions.append(question)
    return questions
