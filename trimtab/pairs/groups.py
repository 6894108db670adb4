"""Which samples belong together, so that no split tears them apart, and which repeat others."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from trimtab.pairs.choices import without_choices
from trimtab.pairs.sample import Sample, Side, normalise_prompt


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Ids of samples that repeat one another, each tuple in the order given.

    `samples` share messages and completions; `completions` share a completion on any side, up to
    case and punctuation. Single letters are no such repetition.
    """

    samples: list[tuple[str, ...]]
    completions: list[tuple[str, ...]]


def prompt_key(prompt: str) -> str:
    """The normalised prompt without choices spelled out in it."""
    return normalise_prompt(without_choices(prompt))


def group_key(sample: Sample) -> str:
    """The key of a sample's prompt; of a raw text, the text itself, normalised."""
    if sample.messages:
        return prompt_key(sample.prompt)
    return normalise_prompt(" ".join(text for _, text in sample.sides))


def assign_groups(samples: Sequence[Sample]) -> list[Sample]:
    """Fill in the groups that are missing: samples with the same `group_key` share one.

    Give training and test samples together: a question that stands in both then stays together. A
    sample without a group joins the group that the same prompt was given elsewhere.
    """
    keys = [group_key(sample) for sample in samples]
    known: dict[str, str] = {}
    for sample, key in zip(samples, keys, strict=True):
        if sample.group:
            known.setdefault(key, sample.group)
    return [
        sample if sample.group else replace(sample, group=known.get(key, key))
        for sample, key in zip(samples, keys, strict=True)
    ]


def balanced_groups(samples: Sequence[Sample]) -> list[str]:
    """Return what every sample is resampled, halved or dealt out with: its group, or one joined.

    What is measured of unpaired texts is weighted by side, so that what moves both sides alike
    drops out, but only where the sides keep their proportions. Groups of one side are therefore
    dealt out to those of the other; a group that holds both stays alone, and so do all where the
    other side is nowhere alone.
    """
    sides: dict[str, set[str]] = {}
    for sample in samples:
        sides.setdefault(sample.group, set()).update(side for side, _ in sample.sides)
    alone = ([g for g, held in sides.items() if held == {side}] for side in get_args(Side))
    few, many = sorted(alone, key=len)
    joined = {group: few[i % len(few)] for i, group in enumerate(many)} if few else {}
    return [joined.get(sample.group, sample.group) for sample in samples]


def duplicates(samples: Sequence[Sample]) -> Duplicates:
    """The samples that repeat one another; they are reported, never dropped."""
    return Duplicates(
        samples=_repeated((sample.content_hash(), sample.id) for sample in samples),
        completions=_repeated(
            (normalise_prompt(text), sample.id)
            for sample in samples
            if not sample.single_letter
            for _, text in sample.sides
        ),
    )


def _repeated(keyed: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    ids: dict[str, dict[str, None]] = defaultdict(dict)
    for key, id in keyed:
        ids[key][id] = None
    return [tuple(found) for found in ids.values() if len(found) > 1]
