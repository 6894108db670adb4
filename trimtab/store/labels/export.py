"""What a store holds, written so that another tool can read, explain or score it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from trimtab.errors import StoreError
from trimtab.store.labels import delphi_export, neuronpedia_export
from trimtab.store.labels.described import sae_hook_point
from trimtab.store.store import Store

FORMATS: Mapping[str, Callable[[Store, Path], None]] = {
    "neuronpedia": neuronpedia_export.write,
    "delphi": delphi_export.write,
}
"""Writers of a store into a folder, by the name of the format."""


def export_labels(store: Store, out: str | Path, *, format: str = "neuronpedia") -> None:
    """Write a store's labels and activations to the folder `out`, which must not exist yet.

    Raises:
        StoreError: the format does not exist, the folder does or its parent does not, or a value
            has no place in the format; nothing is left behind then.
        ModelError: the store has no SAE.
    """
    out = Path(out)
    if format not in FORMATS:
        raise StoreError(f"unknown format {format!r}; choose from {', '.join(FORMATS)}")
    if out.exists():
        raise StoreError(f"{out} already exists; name another folder, or remove it first")
    if not out.parent.is_dir():
        raise StoreError(f"{out.parent} is not a folder; create it first, or name another")
    sae_hook_point(store)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        made = Path(temporary) / out.name
        made.mkdir()
        FORMATS[format](store, made)
        made.rename(out)
