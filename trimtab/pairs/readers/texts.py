"""Unpaired texts: signed single samples, from two text files or from rows with a label.

Nothing is paired: a text keeps its sign and stands alone.
"""

from pathlib import Path

from trimtab.errors import PairsError
from trimtab.pairs.readers.names import side_of
from trimtab.pairs.readers.rows import Row, read_lines
from trimtab.pairs.sample import Sample

LABELS = {
    "positive": ("positive", "pos", "+", "+1", "1", "1.0", "true", "yes"),
    "negative": ("negative", "neg", "-", "-1", "0", "-1.0", "0.0", "false", "no"),
}


def read_one_side(path: Path) -> list[Row]:
    """A text file with one text a line, all of the side that the file's name tells."""
    texts = read_lines(path)
    side = side_of(path)
    if side is None:
        raise PairsError(
            f"{path}: the name does not tell which side its texts are on; call the two files, for"
            " instance, NAME.pos and NAME.neg. (Rows, of pairs or of 'text' and 'label', are read"
            " from .json, .jsonl, .csv, .tsv and .parquet files.)"
        )
    return [Row(where, {"text": line, "label": side}) for where, line in texts]


def text(row: Row) -> Sample:
    """A raw text on the side that its label names."""
    label = str(row.value("label")).strip().lower()
    content = row.text("text")
    meta = row.rest("text", "label")
    if label in LABELS["positive"]:
        return row.sample((), content, None, meta)
    if label in LABELS["negative"]:
        return row.sample((), None, content, meta)
    known = "; ".join(f"{side}: {', '.join(labels)}" for side, labels in LABELS.items())
    raise row.error(f"the label {label!r} names neither side; the labels are {known}")
