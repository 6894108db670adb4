"""Contrast pairs and open questions that ship with trimtab, ready to use without any file."""

from importlib import resources
from importlib.resources.abc import Traversable

from trimtab.errors import PairsError
from trimtab.pairs.readers import read_pairs, read_questions
from trimtab.pairs.sample import Sample

_QUESTIONS = ".questions.jsonl"
_PAIRS = ".jsonl"


def packaged_behaviors() -> list[str]:
    """The names of the packaged behaviours, sorted."""
    names = [file.name for file in _folder().iterdir()]
    return sorted(
        name.removesuffix(_PAIRS)
        for name in names
        if name.endswith(_PAIRS) and not name.endswith(_QUESTIONS)
    )


def load_packaged(name: str) -> list[Sample]:
    """The pairs of a packaged behaviour; raises `PairsError` for a name that is not packaged."""
    with resources.as_file(_file(name, _PAIRS)) as path:
        return read_pairs([path], format="jsonl", behavior=name)


def packaged_questions(name: str) -> list[str]:
    """The open questions of a packaged behaviour, none of which is a prompt of its pairs."""
    with resources.as_file(_file(name, _QUESTIONS)) as path:
        return read_questions(path)


def _file(name: str, suffix: str) -> Traversable:
    names = packaged_behaviors()
    if name not in names:
        raise PairsError(
            f"no packaged behaviour is called {name!r}; choose from {', '.join(names)}"
        )
    return _folder() / f"{name}{suffix}"


def _folder() -> Traversable:
    return resources.files("trimtab.pairs") / "data"
