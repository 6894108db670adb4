"""What chose an exported vector, as its folder records it: its own proof never rests on that.

The splits of a store change when it grows, with the seed, and from one file of pairs to another, so
that the pairs which chose a vector are known by what they say and not by the splits of today.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from trimtab.errors import SelectionError, VectorError
from trimtab.pairs import Sample
from trimtab.pairs.groups import group_key, prompt_key
from trimtab.selector.intervals import MIN_GROUPS
from trimtab.selector.material import Material, check_sides

WAY_OUT = (
    "give others, or the store it was chosen on without --seed, so that its run's splits apply"
)


@dataclass(frozen=True)
class Seen:
    """What a run made its vector of, tuned it on, or judged replies to.

    Attributes:
        groups: of its pairs, by their names there.
        marks: what its pairs are known by, see `_marks`; none that its report shares.
        prompts: keys of all prompts, as `prompt_key` makes them.
    """

    groups: frozenset[str]
    marks: frozenset[str]
    prompts: frozenset[str]

    @property
    def digest(self) -> str:
        """A short name, the same for the same content."""
        content = json.dumps([sorted(part) for part in (self.groups, self.marks, self.prompts)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def left_out_of(self, material: Material) -> tuple[Material, dict[str, int]]:
        """Return a material that measures on nothing of this, and how much was left out of it.

        A group is left out as a whole. Of another data set nothing is, whatever its groups are
        called.

        Raises:
            SelectionError: too little is left to measure on.
        """
        groups = {s.group for s in material.samples if not self.marks.isdisjoint(_marks(s))}
        if groups:  # it is the same data, where a group's name means the same
            groups |= self.groups
        prompts = self.prompts | {group_key(s) for s in material.samples if s.group in groups}
        report = tuple(s for s in material.report if s.group not in groups)
        questions = tuple(
            asked for asked in material.questions if prompt_key(asked[-1]["content"]) not in prompts
        )
        left_out = {
            "pairs": len(material.report) - len(report),
            "questions": len(material.questions) - len(questions),
        }
        if left_out["pairs"]:
            left = len({sample.group for sample in report})
            if left < MIN_GROUPS:
                raise SelectionError(
                    f"{left_out['pairs']} of {len(material.report)} pairs to measure on took part "
                    "in choosing the vector, or share a group with some that did; the others form "
                    f"{left} groups, and an interval needs {MIN_GROUPS}: {WAY_OUT}"
                )
            check_sides("report", report)
        if left_out["questions"] and not questions:
            raise SelectionError(
                "every question to measure on took part in choosing the vector, or shares a group "
                f"with one that did: {WAY_OUT}"
            )
        unseen = {s.id for s in material.samples if s.group not in groups}
        splits = replace(material.splits, report=[i for i in material.splits.report if i in unseen])
        return replace(material, splits=splits, report=report, questions=questions), left_out


def read_seen(folder: Path, card: Mapping[str, Any]) -> Seen:
    """Return what chose the exported vector in `folder`, whose card is `card`.

    Raises:
        VectorError: the folder's table of samples cannot be read.
        KeyError, TypeError: the card lacks something; see `telling_what_lacks`.
    """
    file = folder / "samples.parquet"
    try:
        rows = pl.read_parquet(file).select("group", "split", "prompt", "positive", "negative")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise VectorError(
            f"{file} cannot be read, so it is not known which pairs chose the vector: {error}. "
            "Restore a copy of the folder as `trimtab select` wrote it"
        ) from error
    kept_out: list[Sample] = []
    chose: list[Sample] = []
    for row in rows.iter_rows(named=True):
        asked = ({"role": "user", "content": row["prompt"]},) if row["prompt"] else ()
        sample = Sample("", "", asked, row["positive"], row["negative"], row["group"])
        (kept_out if row["split"] == "report" else chose).append(sample)
    shared = {mark for sample in kept_out for mark in _marks(sample)}
    return Seen(
        frozenset(sample.group for sample in chose),
        frozenset(mark for sample in chose for mark in _marks(sample)) - shared,
        frozenset(map(group_key, chose)) | frozenset(map(prompt_key, card["measured"]["prompts"])),
    )


def _marks(sample: Sample) -> set[str]:
    """What a sample is known by in whatever file: its prompt, and the same with its completions.

    Where many have one prompt, as statements of a persona do, the prompt alone tells nothing.
    """
    prompt = group_key(sample)
    return {prompt, json.dumps([prompt, sample.positive, sample.negative])}
