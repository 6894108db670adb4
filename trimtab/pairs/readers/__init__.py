"""Readers of contrast pairs: one file a format, each a function from a row to a sample."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trimtab.errors import PairsError
from trimtab.pairs.readers import caa
from trimtab.pairs.readers.caa import letters
from trimtab.pairs.readers.caa_spelled import spelled
from trimtab.pairs.readers.collect import collect
from trimtab.pairs.readers.jsonl import pair
from trimtab.pairs.readers.names import behavior_of
from trimtab.pairs.readers.persona import statement
from trimtab.pairs.readers.questions import read_questions
from trimtab.pairs.readers.rows import Row, read_json, rename
from trimtab.pairs.readers.tables import read_csv, read_parquet
from trimtab.pairs.readers.texts import read_one_side, text
from trimtab.pairs.readers.tuples import from_tuples
from trimtab.pairs.sample import Sample

__all__ = ["FORMATS", "from_tuples", "read_pairs", "read_questions"]

FORMATS: Mapping[str, str] = {
    "jsonl": "JSON or JSONL with prompt (or messages), positive and negative",
    "caa": "question and answer_matching_behavior, the answers as they are (A/B letters, Yes/No)",
    "caa-spelled": "the same, with the choices in the question spelled out as completions",
    "persona": "statement and answer_matching_behavior: the statements as unpaired completions",
    "csv": "CSV or TSV with the columns prompt, positive and negative, or others that are mapped",
    "parquet": "Parquet with the same columns",
    "texts": "unpaired texts: two files such as NAME.pos and NAME.neg, or rows with text and label",
}
"""What each format holds, by the name that `read_pairs` takes."""

_SAMPLES: Mapping[str, Callable[[Row], Sample]] = {
    "jsonl": pair,
    "caa": letters,
    "caa-spelled": spelled,
    "persona": statement,
    "csv": pair,
    "parquet": pair,
    "texts": text,
}
_LOADERS: Mapping[str, Callable[[Path], list[Row]]] = {
    ".json": read_json,
    ".jsonl": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
_FORCED: Mapping[str, Callable[[Path], list[Row]]] = {
    "jsonl": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
}


def read_pairs(
    paths: Sequence[Path],
    *,
    format: str = "auto",
    behavior: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[Sample]:
    """Read samples from files, with ids that come once and groups over all files together.

    Args:
        paths: Files of one format, or of several with "auto".
        format: One of `FORMATS`; "auto" tells it from the suffix and the keys.
        behavior: For rows that name none; otherwise the file's or the folder's name.
        columns: The file's own names, by trimtab's: `{"positive": "Best Answer"}`.

    Raises:
        PairsError: A file or row cannot be read; the message names it and the way out.
    """
    if format != "auto" and format not in FORMATS:
        raise PairsError(f"unknown format {format!r}; the formats are:\n{_formats()}")
    read = []
    for path in map(Path, paths):
        rows = rename(_load(path, format), columns or {})
        sample_of = _SAMPLES[_detect(path, rows[0]) if format == "auto" else format]
        for row in rows:
            sample = sample_of(row)
            name = sample.behavior or behavior or behavior_of(path)
            read.append((row, replace(sample, behavior=name)))
    if not read:
        raise PairsError("no files of contrast pairs were given; name at least one")
    return collect(read)


def _load(path: Path, format: str) -> list[Row]:
    loader = _FORCED.get(format) or _LOADERS.get(path.suffix.lower())
    if loader is None:
        loader = read_json if format in ("caa", "caa-spelled", "persona") else read_one_side
    return loader(path)


def _detect(path: Path, row: Row) -> str:
    keys = set(row.values)
    if keys & set(caa.MATCHING):
        return "caa"
    if keys & {"positive", "negative"}:
        return "jsonl"
    if keys >= {"text", "label"}:
        return "texts"
    raise PairsError(
        f"{path}: the keys ({', '.join(row.values)}) fit no format. Map them with columns,"
        f" or name the format:\n{_formats()}"
    )


def _formats() -> str:
    return "\n".join(f"  {name}: {what}" for name, what in FORMATS.items())
