"""A copy of the shared store whose labels may be changed, and one row of another tool's."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trimtab.store import Store, open_store, set_descriptions


@pytest.fixture
def bare(tmp_path: Path, store: Store) -> Store:
    """A copy of the shared store, without descriptions."""
    return open_store(shutil.copytree(store.path, tmp_path / "store"))


@pytest.fixture
def described(bare: Store, descriptions: Callable[..., pl.DataFrame]) -> Store:
    """The same with descriptions of its 48 features."""
    return set_descriptions(bare.path, descriptions(48))


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """Make a row of Neuronpedia's explanations of the shared store's SAE."""

    def make(index: int | str, description: str | None, **more: Any) -> dict[str, Any]:
        return {
            "id": f"id-{index}",
            "modelId": "tiny-llama",
            "layer": "1-tiny",
            "index": str(index),
            "description": description,
            "typeName": "np_max-act",
            "explanationModelName": "gpt-9",
            "createdAt": "2025-01-01T00:00:00.000Z",
            **more,
        }

    return make
