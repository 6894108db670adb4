"""CSV, TSV and Parquet files as rows."""

import io
from pathlib import Path

import polars as pl

from trimtab.errors import PairsError
from trimtab.pairs.readers.rows import Row, empty, read_bytes, read_text


def read_csv(path: Path) -> list[Row]:
    """The rows of a CSV file with a header (tab-separated if it is called .tsv), cells as text."""
    data = io.BytesIO(read_text(path).encode())
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        frame = pl.read_csv(data, separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise PairsError(f"{path} is not a CSV file with a header line: {reason}") from None
    return _rows(path, frame)


def read_parquet(path: Path) -> list[Row]:
    """The rows of a Parquet file."""
    try:
        frame = pl.read_parquet(io.BytesIO(read_bytes(path)))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PairsError(f"{path} is not a Parquet file: {reason}") from None
    return _rows(path, frame)


def _rows(path: Path, frame: pl.DataFrame) -> list[Row]:
    if frame.is_empty():
        raise empty(path)
    return [
        # CSV does not tell an empty text from none: neither is a completion that may be left out.
        Row(f"{path}, row {number}", {k: "" if v is None else v for k, v in record.items()})
        for number, record in enumerate(frame.iter_rows(named=True), start=1)
    ]
