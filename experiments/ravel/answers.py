"""Which prompts the model answers: of what it does not know nothing can be moved."""

import random
from collections.abc import Sequence
from dataclasses import astuple

from experiments.laboratory import Laboratory
from experiments.ravel.domain import Domain
from experiments.ravel.examples import Example, examples_of
from experiments.ravel.interchange import Pair, draw_pairs
from experiments.ravel.prompts import Prompts
from experiments.record import say

HOPELESS = 0.03  # share of the first two templates' prompts that are answered


def answered_pairs(
    laboratory: Laboratory, domain: Domain, attribute: str, split: str, most: int
) -> tuple[list[Pair], int, int]:
    """Return pairs of examples that the model answers, how many it was asked, and answered.

    Templates and entities are drawn from the split, the same entities for every attribute. No more
    templates are asked once there are `most` pairs, or where the first two are hopeless.
    """
    sizes, seed = laboratory.sizes, laboratory.config.seed
    entities = _some(domain.entities[split], sizes.entities, seed)
    templates = _some(domain.templates[attribute][split], sizes.templates, seed)
    kept: list[Example] = []
    pairs: list[Pair] = []
    asked = 0
    for number, template in enumerate(templates):
        if len(pairs) >= most or (number >= 2 and len(kept) < HOPELESS * asked):
            break
        examples = examples_of(laboratory.model, domain, attribute, template, entities)
        if examples:
            say(f"{domain.name}, {attribute}, {split}: template {number + 1}")
            kept += _answered(laboratory, examples)
            asked += len(examples)
            pairs = draw_pairs(kept, most, seed)
    return pairs, asked, len(kept)


def _answered(laboratory: Laboratory, examples: Sequence[Example]) -> list[Example]:
    def measure() -> list[bool]:
        return Prompts(laboratory.model, laboratory.sae.hook_point, examples).answered()

    right = laboratory.journal.once(
        ("answered", [astuple(example) for example in examples]), measure
    )
    return [example for example, is_right in zip(examples, right, strict=True) if is_right]


def _some(names: Sequence[str], most: int, seed: int) -> list[str]:
    return random.Random(seed).sample(names, min(most, len(names)))
