"""The stores that a pass writes, and what encodes for each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab.errors import StoreError
from trimtab.model.hook_points import HookPoint, parse_hook_point
from trimtab.store.building.batches import Settings
from trimtab.store.fingerprint import Values, fingerprint

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE


@dataclass(frozen=True)
class Target:
    """A store, the hook point that it reads, its SAE if it has one, and its fingerprint."""

    path: Path
    hook_point: HookPoint
    sae: "SAE | None"
    fields: Mapping[str, str]

    @property
    def bfloat16(self) -> bool:
        """Whether values are stored as the upper half of their bits."""
        return self.fields["value_dtype"] == "bfloat16"


def target(
    model: "LanguageModel",
    path: Path,
    read: "SAE | HookPoint | str",
    settings: Settings,
    values: Values,
) -> Target:
    """Make a target of what is to be read: an SAE's features, or a hook point's residuals."""
    if isinstance(read, str):
        read = parse_hook_point(read)
    sae = None if isinstance(read, HookPoint) else read
    hook_point = read if isinstance(read, HookPoint) else read.hook_point
    fields = fingerprint(
        model,
        sae,
        hook_point=hook_point,
        chat=settings.chat,
        system=settings.system,
        max_tokens=settings.max_tokens,
        values=values,
    )
    return Target(path, hook_point, sae, fields)


def read_by(
    model: "LanguageModel", sae: "SAE | None", asked: HookPoint | str | None
) -> "SAE | HookPoint":
    """What one store reads: the SAE's hook point, or the one that is asked for, or the middle.

    Raises `StoreError` where the SAE does not encode the one that is asked for.
    """
    if isinstance(asked, str):
        asked = parse_hook_point(asked)
    if sae is None:
        return asked or HookPoint(model.n_layers // 2, "hook_resid_post")
    if asked is not None and asked != sae.hook_point:
        raise StoreError(
            f"the SAE reads {sae.hook_point} and cannot encode {asked};"
            " leave out the hook point, or build without an SAE"
        )
    return sae


def store_names(reads: Sequence["SAE | HookPoint"]) -> list[str]:
    """A folder name for each of several stores: its hook point, and its SAE where two share one.

    Raises `StoreError` where two are to hold the same.
    """
    points = [read if isinstance(read, HookPoint) else read.hook_point for read in reads]
    names = [
        str(point)
        if points.count(point) == 1 or isinstance(read, HookPoint)
        else f"{point}.{re.sub(r'[^A-Za-z0-9_.-]+', '-', read.spec).strip('-.')}"
        for read, point in zip(reads, points, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            raise StoreError(
                f"{name} is requested twice; every store needs its own SAE or hook point"
            )
    return names


def context(model: "LanguageModel") -> int:
    """Tokens that the model can read at once, or as many as a store can number."""
    return model.context or (1 << 16) - 1
