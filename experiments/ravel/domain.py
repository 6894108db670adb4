"""Entities, their attributes, and the prompts that ask for them: the files of RAVEL.

Huang et al. (2024), https://arxiv.org/abs/2402.17700. A domain is four JSON files:

    ravel_DOMAIN_entity_attributes.json     {entity: {attribute: value}}
    ravel_DOMAIN_attribute_to_prompts.json  {attribute: [template]}, `%s` for the entity
    ravel_DOMAIN_entity_to_split.json       {entity: "train", "val" or "test"}
    ravel_DOMAIN_prompt_to_split.json       {template: the same}
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import PairsError

SPLITS = ("train", "val", "test")
PLACE = "%s"


@dataclass(frozen=True)
class Domain:
    """What one domain's files hold.

    Attributes:
        values: of every entity, by attribute; those that it has.
        entities: by split.
        templates: by attribute, then by split.
    """

    name: str
    values: dict[str, dict[str, str]]
    entities: dict[str, list[str]]
    templates: dict[str, dict[str, list[str]]]


def read_domain(name: str, file: Callable[[str], Path]) -> Domain:
    """Read a domain.

    Args:
        name: as its files have it: `city`.
        file: returns the path of one of them.

    Raises:
        PairsError: a file is no such JSON, or a template has no place for the entity.
        SelectionError: as `file` does.
    """
    attributes, prompts, of_entities, of_prompts = (
        file(f"ravel/ravel_{name}_{what}.json")
        for what in (
            "entity_attributes",
            "attribute_to_prompts",
            "entity_to_split",
            "prompt_to_split",
        )
    )
    values = {
        entity: {attribute: _value(value) for attribute, value in found.items() if _value(value)}
        for entity, found in _read(attributes, dict).items()
    }
    asked = _read(prompts, list)
    for template in (template for templates in asked.values() for template in templates):
        if not isinstance(template, str) or PLACE not in template:
            raise PairsError(f"{prompts}: {template!r} has no {PLACE} for the entity")
    entity_split, prompt_split = _read(of_entities, str), _read(of_prompts, str)
    return Domain(
        name,
        values,
        {split: [e for e in values if entity_split.get(e) == split] for split in SPLITS},
        {
            attribute: {
                split: [t for t in dict.fromkeys(templates) if prompt_split.get(t) == split]
                for split in SPLITS
            }
            for attribute, templates in asked.items()
        },
    )


def _read(file: Path, kind: type) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PairsError(f"{file} is no JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(x, kind) for x in found.values()):
        raise PairsError(f"{file} is no file of RAVEL: it should hold {{name: {kind.__name__}}}")
    return found


def _value(value: object) -> str:
    """The first of several values, as prompts ask for it: without the slashes of pronunciations."""
    return "" if value is None else str(value).split(",")[0].strip("/ ")
