"""A pool of pairs that could be collected: prompts, with the completions that are there already."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import PairsError
from trimtab.pairs.groups import prompt_key
from trimtab.pairs.readers import caa
from trimtab.pairs.readers.jsonl import messages_of
from trimtab.pairs.readers.questions import read_questions
from trimtab.pairs.readers.rows import Row, read_json
from trimtab.pairs.readers.tables import read_csv, read_parquet
from trimtab.pairs.sample import Message

_LOADERS = {
    ".json": read_json,
    ".jsonl": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}


@dataclass(frozen=True, slots=True)
class Prospect:
    """A pair that could be collected; a completion that nobody has written yet is None."""

    id: str
    messages: tuple[Message, ...]
    positive: str | None = None
    negative: str | None = None

    @property
    def prompt(self) -> str:
        """The last user message's content; empty for a raw text."""
        users = [message["content"] for message in self.messages if message["role"] == "user"]
        return users[-1] if users else ""

    @property
    def is_pair(self) -> bool:
        """Whether both completions are there."""
        return self.positive is not None and self.negative is not None

    @property
    def group_key(self) -> str:
        """What `trimtab.pairs.groups.group_key` says of the pair that it would make."""
        return prompt_key(self.prompt)


def read_pool(path: Path) -> list[Prospect]:
    """Read pairs, pairs that lack completions, and bare prompts, from one file.

    JSON, JSONL, CSV, TSV and Parquet hold rows as `read_pairs` takes them, of which either
    completion may be missing, null or empty; CAA's rows are taken as they are. Of a text file each
    line is a prompt.

    Raises:
        PairsError: the file or a row cannot be read, an id comes twice, or a row has neither a
            prompt nor two completions; the message names it.
    """
    loader = _LOADERS.get(path.suffix.lower())
    if loader is None:
        return [
            Prospect(f"prospect-{number:04d}", ({"role": "user", "content": prompt},))
            for number, prompt in enumerate(read_questions(path), start=1)
        ]
    found = [_prospect(row, number) for number, row in enumerate(loader(path), start=1)]
    twice = [id for id, count in Counter(one.id for one in found).items() if count > 1]
    if twice:
        raise PairsError(f"{path}: the id {twice[0]!r} occurs twice; change one, or leave ids out")
    return found


def _prospect(row: Row, number: int) -> Prospect:
    id = row.label("id") or f"prospect-{number:04d}"
    if set(row.values) & set(caa.MATCHING):
        whole = caa.letters(row)
        return Prospect(id, whole.messages, whole.positive, whole.negative)
    positive, negative = (_side(row, key) for key in ("positive", "negative"))
    stand_in = positive if positive or negative else "-"  # so that a prompt alone is checked, too
    messages = row.sample(messages_of(row), stand_in, negative, {}).messages
    prospect = Prospect(id, messages, positive, negative)
    if not (prospect.messages or prospect.is_pair):
        raise row.error("the row has neither a prompt nor two completions; give one or the other")
    return prospect


def _side(row: Row, key: str) -> str | None:
    value = row.values.get(key)
    return None if value is None or not row.text(key).strip() else row.text(key)
