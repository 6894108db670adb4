"""A training run's recipe: everything about it but where text and results lie, in one TOML file."""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from trimtab.errors import ModelError


@dataclass(frozen=True)
class Recipe:
    """What is trained, on how much of which text, and how; the field's names are the file's keys.

    Attributes:
        architecture: `batchtopk` or `matryoshka_batchtopk`; either becomes a JumpReLU SAE.
        hook_point: where the activations are read, as in `trimtab build`.
        width: number of features.
        k: mean number of active features a token.
        inner_widths: what a Matryoshka SAE must also reconstruct with, ascending, below `width`.
        tokens: trained on, text repeated as often as that takes.
        batch: tokens a step.
        lr: peak learning rate of Adam; it falls to a tenth, linearly, over the last `decay`.
        warm_up: steps at the beginning over which the learning rate rises.
        decay: share of the steps over which it falls.
        dead_after: steps without firing after which a feature counts as dead and is revived.
        context: tokens a document is cut into.
        held_out: share of the documents that no training run ever sees.
        share: part of each source's documents that is used, 1 where it is not named.
        shards: of 32,768 tokens of text; what lies beyond is not used. None: all of it.
        seed: of weights and shuffling.
    """

    architecture: Literal["batchtopk", "matryoshka_batchtopk"]
    hook_point: str
    width: int
    k: float
    tokens: int
    inner_widths: list[int] = field(default_factory=list)
    batch: int = 2048
    lr: float = 1e-3
    warm_up: int = 100
    decay: float = 0.3
    dead_after: int = 200
    context: int = 256
    held_out: float = 0.02
    share: dict[str, float] = field(default_factory=dict)
    shards: int | None = None
    seed: int = 0


def read_recipe(file: Path) -> Recipe:
    """Read a recipe. Raises `ModelError` where the file says less, more or other than a recipe."""
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"recipe {file} cannot be read: {error}") from error
    known = {f.name for f in fields(Recipe)}
    if unknown := sorted(set(values) - known):
        raise ModelError(f"recipe {file}: {', '.join(unknown)} unknown; known: {sorted(known)}")
    numbers = ("width", "k", "tokens", "batch", "lr", "held_out")
    if words := [name for name in numbers if isinstance(values.get(name, 0), str | bool)]:
        raise ModelError(f"recipe {file}: {', '.join(words)} must be a number")
    try:
        recipe = Recipe(**values)
    except TypeError as error:
        raise ModelError(f"recipe {file}: {error}") from error
    if recipe.architecture not in ("batchtopk", "matryoshka_batchtopk"):
        raise ModelError(f"recipe {file}: architecture {recipe.architecture!r} is neither kind")
    if (recipe.architecture == "matryoshka_batchtopk") != bool(recipe.inner_widths):
        raise ModelError(f"recipe {file}: inner_widths and matryoshka_batchtopk go together")
    for name, fits in (
        ("width", recipe.width > 0),
        ("k", 0 < recipe.k <= recipe.width),
        ("batch", recipe.batch > 0),
        ("lr", recipe.lr > 0),
        ("held_out", 0 <= recipe.held_out < 1),
        ("share", all(0 <= part <= 1 for part in recipe.share.values())),
        ("inner_widths", recipe.inner_widths == _ascending(recipe.inner_widths, recipe.width)),
    ):
        if not fits:
            raise ModelError(f"recipe {file}: {name} = {getattr(recipe, name)} cannot be")
    if recipe.tokens < recipe.batch:
        raise ModelError(f"recipe {file}: {recipe.tokens} tokens make no batch of {recipe.batch}")
    return recipe


def _ascending(widths: list[int], below: int) -> list[int]:
    return sorted({width for width in widths if 0 < width < below})
