"""Samples as token ids, and batches of them of like length, so that little is padding."""

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.store.plan import Planned

KINDS = {"positive": 1, "negative": 2}
"""Kind of a sequence; a prompt's is 0."""


@dataclass(frozen=True)
class Settings:
    """How samples are run; all of it but `batch_tokens` is in the fingerprint."""

    chat: bool
    system: str | None
    max_tokens: int
    batch_tokens: int


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A sample's ids, and what became of it: its completions are `(kind, ids)`."""

    index: int
    prompt: tuple[int, ...] = ()
    completions: tuple[tuple[int, tuple[int, ...]], ...] = ()
    n_truncated: int = 0
    status: str = "ok"

    @property
    def longest(self) -> int:
        """Tokens of the longest completion."""
        return max(len(ids) for _, ids in self.completions)

    @property
    def n_tokens(self) -> int:
        """Tokens that are stored: a shared prompt counts once."""
        return len(self.prompt) + sum(len(ids) for _, ids in self.completions)


def tokenise(model: LanguageModel, entry: Planned, settings: Settings) -> Tokenised:
    """Render a sample; what is longer than `max_tokens` loses its completion's end."""
    sample = entry.sample
    prompt: tuple[int, ...] = ()
    completions = []
    n_truncated = 0
    for side, text in sample.sides:
        rendered = render(model, sample.messages, text, chat=settings.chat, system=settings.system)
        prompt, ids = rendered.ids[: rendered.n_prompt], rendered.ids[rendered.n_prompt :]
        if not ids:
            return Tokenised(entry.index, status="empty_completion")
        room = settings.max_tokens - len(prompt)
        if room < 1:
            return Tokenised(entry.index, status="prompt_too_long")
        n_truncated += len(ids[room:])
        completions.append((KINDS[side], ids[:room]))
    return Tokenised(entry.index, prompt, tuple(completions), n_truncated)


def by_length(samples: Sequence[Tokenised]) -> list[Tokenised]:
    """The samples that can be run, those of like length beside one another."""
    usable = [sample for sample in samples if sample.status == "ok"]
    return sorted(usable, key=lambda s: (len(s.prompt), s.longest, s.index))


def first_batch(samples: Sequence[Tokenised], batch_tokens: int) -> list[Tokenised]:
    """As many of the first samples as fit into `batch_tokens` padded tokens, and at least one."""
    n, longest = 0, 0
    for sample in samples:
        longest = max(longest, sample.longest)
        if n and (n + 1) * (len(sample.prompt) + 2 * longest) > batch_tokens:
            break
        n += 1
    return list(samples[:n])


def padded_tokens(batch: Sequence[Tokenised]) -> int:
    """What a batch costs, as `first_batch` counts it."""
    return len(batch) * (len(batch[-1].prompt) + 2 * max(sample.longest for sample in batch))
