"""Activations of samples on the disk: built once, resumed after a crash, read with SQL."""

from trimtab.store.building.build import build, build_many
from trimtab.store.reading.matrices import Differences
from trimtab.store.reading.sandbox import query, tables
from trimtab.store.store import Store, open_store, set_descriptions

__all__ = [
    "Differences",
    "Store",
    "build",
    "build_many",
    "open_store",
    "query",
    "set_descriptions",
    "tables",
]
