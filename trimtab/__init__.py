"""Find the minimal steering vector of a language-model behaviour, and account for every part of it.

The names below are imported when they are first used, so that what needs no model loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.errors import TrimtabError as TrimtabError
    from trimtab.model.language_model import load_model as load_model
    from trimtab.model.sae import load_sae as load_sae
    from trimtab.pairs import Sample as Sample
    from trimtab.pairs import load_packaged as load_packaged
    from trimtab.pairs import packaged_questions as packaged_questions
    from trimtab.pairs import read_pairs as read_pairs
    from trimtab.selector.run import run as select  # noqa: F401
    from trimtab.selector.select import Settings as Settings
    from trimtab.steering.clamp import FeatureClamp as FeatureClamp
    from trimtab.steering.generation import generate as generate
    from trimtab.steering.generation import read_prompts as read_prompts
    from trimtab.steering.vector import SteeringVector as SteeringVector
    from trimtab.steering.vector import load_vector as load_vector
    from trimtab.store import build as build
    from trimtab.store import open_store as open_store

_HOMES = {
    "FeatureClamp": "trimtab.steering.clamp",
    "Sample": "trimtab.pairs",
    "Settings": "trimtab.selector.select",
    "SteeringVector": "trimtab.steering.vector",
    "TrimtabError": "trimtab.errors",
    "build": "trimtab.store",
    "generate": "trimtab.steering.generation",
    "load_model": "trimtab.model.language_model",
    "load_packaged": "trimtab.pairs",
    "load_sae": "trimtab.model.sae",
    "load_vector": "trimtab.steering.vector",
    "open_store": "trimtab.store",
    "packaged_questions": "trimtab.pairs",
    "read_pairs": "trimtab.pairs",
    "read_prompts": "trimtab.steering.generation",
    "select": "trimtab.selector.run",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trimtab' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), "run" if name == "select" else name)


def __dir__() -> list[str]:
    return __all__
