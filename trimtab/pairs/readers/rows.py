"""Files as rows: text, JSON and JSONL; and every complaint gets its file and row."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import PairsError
from trimtab.pairs.sample import Message, Sample

SHARED_KEYS = ("id", "behavior", "group")
FIELDS = (
    *SHARED_KEYS,
    *("prompt", "messages", "positive", "negative", "meta"),
    *("text", "label"),
    *("question", "answer_matching_behavior", "answer_not_matching_behavior"),
)
"""trimtab's own names of what a row can hold, which `columns` maps."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record and where it stands, such as "pairs.jsonl, line 3".

    Lines and rows count from 1; a table's header is not counted.
    """

    where: str
    values: Mapping[str, Any]

    def error(self, message: str) -> PairsError:
        """A `PairsError` that names the file and the row."""
        return PairsError(f"{self.where}: {message}")

    def value(self, key: str) -> Any:
        """The value of `key`, which must be there."""
        if key not in self.values:
            raise self.error(
                f"there is no {key!r} among the keys ({', '.join(self.values)});"
                f" rename one, or map it with columns={{{key!r}: ...}}"
            )
        return self.values[key]

    def text(self, key: str) -> str:
        """The text under `key`, which must be there."""
        value = self.value(key)
        if not isinstance(value, str):
            raise self.error(f"{key!r} must be text, not {value!r:.60}")
        return value

    def label(self, key: str) -> str:
        """A short name under `key` (id, behavior, group), whole numbers too; "" when absent."""
        value = self.values.get(key)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.error(f"{key!r} must be text or a whole number, not {value!r:.60}")
        return str(value).strip()

    def sample(
        self,
        messages: tuple[Message, ...],
        positive: str | None,
        negative: str | None,
        meta: Mapping[str, Any],
    ) -> Sample:
        """A sample with this row's id, behaviour and group, each empty when the row has none."""
        id, behavior, group = (self.label(key) for key in SHARED_KEYS)
        try:
            return Sample(id, behavior, messages, positive, negative, group, meta)
        except PairsError as error:
            raise self.error(str(error)) from None

    def rest(self, *known: str) -> dict[str, Any]:
        """What no field of a sample takes; it goes to the meta, so that nothing is lost."""
        return {k: v for k, v in self.values.items() if k not in (*known, *SHARED_KEYS)}


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that is there and not empty."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PairsError(f"{path}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise PairsError(f"{path} is a folder; name the files in it") from None
    except OSError as error:
        raise PairsError(f"{path} cannot be read: {error.strerror}") from None
    if not data.strip():
        raise empty(path)
    return data


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark."""
    data = read_bytes(path)
    if data.startswith(b"\x1f\x8b"):
        raise PairsError(
            f"{path} is compressed; unpack it first, for instance: gunzip -k {path.name}"
        )
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "ISO-8859-1"
        raise PairsError(
            f"{path} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}."
            f" Convert it first, for instance: iconv -f {encoding} -t UTF-8 {path.name} > NEW_FILE"
        ) from None


def read_lines(path: Path) -> list[tuple[str, str]]:
    """`(where, line)` for every line that is not blank, stripped."""
    # Not str.splitlines: it also cuts at U+0085 and U+2028, which stand inside texts.
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    return [
        (f"{path}, line {number}", line.strip())
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]


def read_records(path: Path) -> list[tuple[str, Any]]:
    """`(where, value)` for each element of a JSON list, or each line of JSONL."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        elements = _parse(text, str(path))
        records = [(f"{path}, row {n}", element) for n, element in enumerate(elements, start=1)]
    else:
        records = [(where, _parse(line, where)) for where, line in read_lines(path)]
    if not records:
        raise empty(path)
    return records


def read_json(path: Path) -> list[Row]:
    """The rows of a JSON list of objects, or of JSONL with one object a line."""
    records = read_records(path)
    for where, value in records:
        if not isinstance(value, dict):
            raise PairsError(f"{where}: expected an object with named keys, not {value!r:.60}")
    return [Row(where, value) for where, value in records]


def rename(rows: Sequence[Row], columns: Mapping[str, str]) -> list[Row]:
    """Rows under trimtab's own names; `columns` maps such a name to the file's name for it."""
    if unknown := [field for field in columns if field not in FIELDS]:
        raise PairsError(
            f"columns maps {unknown[0]!r}, which trimtab does not know; it knows: "
            + ", ".join(FIELDS)
        )
    renamed = []
    for row in rows:
        for field, column in columns.items():
            if column not in row.values:
                raise row.error(
                    f"there is no column {column!r} to read {field!r} from;"
                    f" the columns are: {', '.join(row.values)}"
                )
        taken = {*columns, *columns.values()}
        values = {field: row.values[column] for field, column in columns.items()}
        values |= {key: value for key, value in row.values.items() if key not in taken}
        renamed.append(Row(row.where, values))
    return renamed


def empty(path: Path) -> PairsError:
    """The error of a file without a single row."""
    return PairsError(f"{path} is empty; give a file with at least one row")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if "\n" in text else ""
        raise PairsError(
            f"{where} is not JSON: {error.msg} ({place}column {error.colno})."
            " The file must be one list, or JSONL with one object a line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise PairsError(f"{where} is JSON that cannot be read: {error}") from None
