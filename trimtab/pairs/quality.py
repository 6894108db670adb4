"""What a set of pairs is like before any model sees it: repetition, length, lexical part."""

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trimtab.pairs.groups import duplicates, prompt_key
from trimtab.pairs.sample import Sample, Side, choice_letter, normalise_prompt

RUN = 6
"""So many words in a row make two prompts too alike."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of a set of samples; `None` where there is nothing to count.

    Lengths are in words, positive less negative. `same_opening_…` is the share of a side's
    completions that open with the word that most of them open with; `first_word_accuracy` is the
    share of completions whose side is told by their first word alone, each group judged by the
    others (0.5: chance).
    """

    pairs: int
    unpaired_positive: int
    unpaired_negative: int
    groups: int
    duplicate_samples: int
    duplicate_completions: int
    length_difference: float | None
    length_difference_sd: float | None
    opening_words_positive: int
    opening_words_negative: int
    same_opening_positive: float | None
    same_opening_negative: float | None
    first_word_accuracy: float | None
    positive_is_first_choice: float | None
    prompts_sharing_six_words: int


def describe(samples: Sequence[Sample]) -> Quality:
    """Describe samples that have their groups; no model is needed.

    `duplicate_samples` and `duplicate_completions` count what repeats an earlier sample or
    completion; `positive_is_first_choice` is the share of lettered pairs whose positive answer
    comes first in the alphabet (counterbalanced: 0.5).
    """
    pairs = [(s.positive, s.negative) for s in samples if s.positive and s.negative]
    differences = [len(positive.split()) - len(negative.split()) for positive, negative in pairs]
    first_choices = [
        first < second
        for positive, negative in pairs
        if (first := choice_letter(positive)) and (second := choice_letter(negative))
    ]
    repeated = duplicates(samples)
    openings: dict[Side, Counter[str]] = {"positive": Counter(), "negative": Counter()}
    for sample in samples:
        for side, text in sample.sides:
            openings[side][_first_word(text)] += 1
    same = {
        side: max(words.values()) / words.total() if words else None
        for side, words in openings.items()
    }
    prompts = [prompt_key(sample.prompt) for sample in samples]
    return Quality(
        pairs=len(pairs),
        unpaired_positive=sum(s.negative is None for s in samples),
        unpaired_negative=sum(s.positive is None for s in samples),
        groups=len({sample.group for sample in samples}),
        duplicate_samples=sum(len(ids) - 1 for ids in repeated.samples),
        duplicate_completions=sum(len(ids) - 1 for ids in repeated.completions),
        length_difference=statistics.fmean(differences) if differences else None,
        length_difference_sd=statistics.stdev(differences) if len(differences) > 1 else None,
        opening_words_positive=len(openings["positive"]),
        opening_words_negative=len(openings["negative"]),
        same_opening_positive=same["positive"],
        same_opening_negative=same["negative"],
        first_word_accuracy=first_word_accuracy(samples),
        positive_is_first_choice=statistics.fmean(first_choices) if first_choices else None,
        prompts_sharing_six_words=len(sharing_a_run(prompts)),
    )


def first_word_accuracy(samples: Sequence[Sample]) -> float | None:
    """How well the first word alone tells the side, leaving one group out at a time.

    A word counts for the side that it opens more often, as a share of that side's completions; it
    must do so with the group and without it. Otherwise a balanced set would score 0 instead of one
    half, because leaving a completion out always tips the balance against it. A word that counts
    for no side scores one half. `None` below two groups.
    """
    if len({sample.group for sample in samples}) < 2:
        return None
    openings = [
        (sample.group, side, _first_word(text)) for sample in samples for side, text in sample.sides
    ]
    totals = Counter(side for _, side, _ in openings)
    words = Counter((side, word) for _, side, word in openings)
    own_totals = Counter((group, side) for group, side, _ in openings)
    own_words = Counter(openings)

    def share(side: Side, word: str, without: str | None) -> float:
        count = words[side, word] - (own_words[without, side, word] if without else 0)
        total = totals[side] - (own_totals[without, side] if without else 0)
        return count / total if total else 0.0

    scores = []
    for group, side, word in openings:
        other: Side = "negative" if side == "positive" else "positive"
        leans = [share(side, word, out) - share(other, word, out) for out in (None, group)]
        scores.append(1.0 if min(leans) > 0 else 0.0 if max(leans) < 0 else 0.5)
    return statistics.fmean(scores)


def sharing_a_run(texts: Iterable[str], length: int = RUN) -> list[int]:
    """Indices of the texts that have `length` words in a row in common with another text."""
    owners: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for index, text in enumerate(texts):
        words = normalise_prompt(text).split()
        for start in range(len(words) - length + 1):
            owners[tuple(words[start : start + length])].add(index)
    return sorted({index for found in owners.values() if len(found) > 1 for index in found})


def _first_word(text: str) -> str:
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.casefold())
    return words[0] if words else text.strip()
