"""The behaviours that studies run on: packaged sets, and public ones in a folder of data."""

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from experiments.checked import checked
from trimtab.errors import PairsError, SelectionError
from trimtab.pairs import Sample, load_packaged, packaged_questions, read_pairs, read_questions
from trimtab.store.files import write_atomically


@dataclass(frozen=True)
class Source:
    """Where a behaviour's samples and open questions lie.

    Attributes:
        packaged: name of a set inside the package, which needs no files.
        files: of the samples, in the folder of data.
        format: of the files, a name that `read_pairs` knows.
        questions: a file beside the list that names this source, or in the folder of data.
        folder: of that list.
        encoding: of text files that are not UTF-8; they are read from a copy.
    """

    packaged: str = ""
    files: tuple[str, ...] = ()
    format: str = "jsonl"
    questions: str = ""
    folder: Path = Path()
    encoding: str = "utf-8"


KEYS = {one.name for one in fields(Source)} - {"folder"}


def sources(listed: Any, file: Path) -> dict[str, Source]:
    """Return the sources of a list's tables, by the behaviours' names; the list is of `file`.

    An empty table stands for the packaged set of its name.

    Raises:
        PairsError: a table has a key that there is not, or names files and no questions.
        SelectionError: it is no list of tables, or something in it is of another type.
    """
    found = {}
    for name, entry in checked(dict[str, dict[str, Any]], listed, f"{file}, behaviors").items():
        where = f"{file}, behaviour {name!r}"
        unknown = sorted(set(entry) - KEYS)
        if unknown:
            raise PairsError(
                f"{where}: unknown {', '.join(unknown)}; there are {', '.join(sorted(KEYS))}"
            )
        if "files" in entry and not entry.get("questions"):
            raise PairsError(f"{where} names files, no questions")
        packaged = {} if "files" in entry else {"packaged": name}
        found[name] = checked(Source, {**packaged, **entry, "folder": file.parent}, where)
    return found


def read_sources(file: Path) -> dict[str, Source]:
    """Read a TOML file that is a list of behaviours.

    Raises:
        PairsError, SelectionError: as `sources` and `read_toml` do.
    """
    return sources(read_toml(file), file)


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        SelectionError: it cannot be read.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SelectionError(f"{file} is no list of what to study: {error}") from error


def read_samples(name: str, source: Source, data: Path | None, copies: Path) -> list[Sample]:
    """Read a behaviour's samples.

    Args:
        name: of the behaviour, which the samples get.
        source: where they lie.
        data: folder of the data sets.
        copies: folder of copies in UTF-8.

    Raises:
        PairsError: no such set is packaged, or no folder was named; as `read_pairs` does.
    """
    if source.packaged:
        return [replace(sample, behavior=name) for sample in load_packaged(source.packaged)]
    paths = [_folder(name, data) / file for file in source.files]
    if source.encoding != "utf-8":
        for path in paths:  # other studies may be copying them too
            text = path.read_text(encoding=source.encoding)
            write_atomically(copies / path.name, text.encode())
        paths = [copies / path.name for path in paths]
    return read_pairs(paths, format=source.format, behavior=name)


def questions_of(name: str, source: Source, data: Path | None) -> list[str]:
    """Read a behaviour's open questions, which lie beside its list or in the data."""
    if source.packaged:
        return packaged_questions(source.packaged)
    near = source.folder / source.questions
    return read_questions(near if near.exists() else _folder(name, data) / source.questions)


def _folder(name: str, data: Path | None) -> Path:
    if data is None:
        raise PairsError(f"behaviour {name!r} lies in files; name their folder: --data")
    return data
