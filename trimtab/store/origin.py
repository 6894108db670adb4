"""The model that a store was built with, loaded again by what the fingerprint says of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel


def load_model_of(
    fields: Mapping[str, str], name: str | None = None, *, dtype: str, device: str = "auto"
) -> "LanguageModel":
    """Load the model that a fingerprint names, at its revision; or from `name`, where it lies now.

    Raises `ModelError` where it cannot be loaded. Whether it is the same is for the caller to say.
    """
    from trimtab.model.language_model import load_model

    revision = None if name else fields["model_revision"] or None
    return load_model(name or fields["model"], dtype=dtype, device=device, revision=revision)
