"""Contrast pairs: what one is, how to read them, which belong together. Knows nothing of models."""

from trimtab.pairs.groups import Duplicates, assign_groups, balanced_groups, duplicates
from trimtab.pairs.packaged import load_packaged, packaged_behaviors, packaged_questions
from trimtab.pairs.quality import Quality, describe
from trimtab.pairs.readers import FORMATS, from_tuples, read_pairs, read_questions
from trimtab.pairs.sample import Message, Sample, Side, normalise_prompt
from trimtab.pairs.splits import Splits, split

__all__ = [
    "FORMATS",
    "Duplicates",
    "Message",
    "Quality",
    "Sample",
    "Side",
    "Splits",
    "assign_groups",
    "balanced_groups",
    "describe",
    "duplicates",
    "from_tuples",
    "load_packaged",
    "normalise_prompt",
    "packaged_behaviors",
    "packaged_questions",
    "read_pairs",
    "read_questions",
    "split",
]
