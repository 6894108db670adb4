"""What a store's numbers depend on, in one short name.

The fingerprint covers everything that changes a stored number, and not the samples: those are
planned one by one, so that adding pairs costs only the new pairs.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal, get_args

from trimtab.errors import StoreError

if TYPE_CHECKING:
    from trimtab.model.hook_points import HookPoint
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

FORMAT = "2"
"""Version of the files and of their meaning; counted up whenever an old store would be misread."""

Values = Literal["auto", "float32", "bfloat16"]
"""How feature activations are stored: exactly, or as the upper 16 of their 32 bits, rounded to
nearest even; by default as exactly as the model computes."""

LIBRARIES = ("torch", "transformers", "sae-lens")


def fingerprint(
    model: "LanguageModel",
    sae: "SAE | None",
    *,
    hook_point: "HookPoint",
    chat: bool,
    system: str | None,
    max_tokens: int,
    values: Values = "auto",
) -> dict[str, str]:
    """Name every choice that a stored number depends on.

    Raises `StoreError` where `values` is none of `Values`.
    """
    if values not in get_args(Values):
        raise StoreError(f"unknown values {values!r}; choose from {', '.join(get_args(Values))}")
    if values == "auto":
        values = "bfloat16" if str(model.dtype) == "torch.bfloat16" else "float32"
    fields = {
        "store_format": FORMAT,
        **model.fingerprint(),
        **({"sae": "none"} if sae is None else sae.fingerprint()),
        "hook_point": str(hook_point),
        "d_model": str(model.d_model),
        "d_sae": "0" if sae is None else str(sae.d_sae),
        "prompt_form": "chat" if chat else "raw",
        "system_prompt": "default" if system is None else json.dumps(system, ensure_ascii=False),
        "max_tokens": str(max_tokens),
        "truncation": "end of the completion",
        "special_tokens": "kept",
        "position_0": "without features",
        "value_dtype": values,
    }
    # A local build such as 2.13.0+cpu computes what 2.13.0 computes.
    fields |= {name.replace("-", "_"): version(name).split("+")[0] for name in LIBRARIES}
    return {name: str(value) for name, value in fields.items()}


def prompt_form(fields: Mapping[str, str]) -> tuple[bool, str | None]:
    """Whether prompts went through the chat template, and their system prompt if one was given."""
    system = fields["system_prompt"]
    return fields["prompt_form"] == "chat", None if system == "default" else json.loads(system)


def longest_of(fields: Mapping[str, str]) -> int:
    """Tokens of prompt and completion that were kept of every sample."""
    return int(fields["max_tokens"])


def digest(fields: Mapping[str, str]) -> str:
    """Sha-256 of the canonical JSON, first 16 hex digits."""
    canonical = json.dumps(dict(fields), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def check_same(path: object, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Raise `StoreError` that names every field in which two fingerprints differ."""
    names = [*old, *(name for name in new if name not in old)]
    differences = [
        f"  {name}: the store has {old.get(name, '(nothing)')}, you asked for "
        f"{new.get(name, '(nothing)')}"
        for name in names
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise StoreError(
            f"{path} was built with other settings:\n"
            + "\n".join(differences)
            + "\nBuild into a new folder, or use the store's own settings."
        )
