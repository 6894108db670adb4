"""Stored samples run through the model again: what is the same passes, what is not is named."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from trimtab.errors import StoreError
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build, open_store
from trimtab.store.checks.recompute import recompute
from trimtab.store.shards import read_markers, write_shard

Pairs = Callable[..., list[Sample]]
Build = Callable[..., Store]


def test_a_sound_store_differs_by_rounding_at_most(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    found = recompute(store, 5, tiny_model, tiny_sae)
    assert (found.n_samples, found.problems) == (5, [])
    assert found.residual < 1e-4
    assert found.activations < 1e-3
    assert recompute(store, 1000, tiny_model, tiny_sae).n_samples == 12


def test_a_store_without_an_sae_is_compared_by_its_residuals(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs
) -> None:
    dense = build(tmp_path / "dense", make_pairs(3), tiny_model, None, progress=False)
    found = recompute(dense, 2, tiny_model, None)
    assert (found.n_samples, found.activations, found.problems) == (2, 0.0, [])


@pytest.mark.parametrize("table", ["tokens", "residuals", "activations"])
def test_numbers_that_the_model_does_not_give_are_named(
    built: Build, make_pairs: Pairs, tiny_model: LanguageModel, tiny_sae: SAE, table: str
) -> None:
    """The shard is committed with them: no checksum and no count can tell."""
    store = built(make_pairs(3))
    folder = store.path / "shards"
    for task, marker in read_markers(folder).items():
        tables = {
            name: pl.read_parquet(folder / file["file"]) for name, file in marker["files"].items()
        }
        change = {
            "tokens": pl.col("token_id") + 1,
            "residuals": pl.col("mean").arr.eval(pl.element() * 1.1),
            "activations": pl.col("value") * 1.1,
        }[table]
        tables[table] = tables[table].with_columns(
            change.cast(tables[table].schema[change.meta.output_name()])
        )
        write_shard(folder, task, tables, {"fingerprint": marker["fingerprint"]})
    changed = open_store(store.path)
    assert changed.verify() == []
    found = recompute(changed, 3, tiny_model, tiny_sae)
    assert len(found.problems) == 3
    assert all(table in problem and "pair-" in problem for problem in found.problems)


def test_another_model_or_sae_is_refused(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    module = deepcopy(tiny_model.module)
    with torch.no_grad():
        next(module.parameters())[0, 0] += 1
    with pytest.raises(StoreError, match="model_sha256"):
        recompute(store, 1, replace(tiny_model, module=module), tiny_sae)
    with pytest.raises(StoreError, match="sae_sha256"):
        recompute(store, 1, tiny_model, None)


def test_a_store_without_a_usable_sample_says_so(
    built: Build, make_pairs: Pairs, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    empty = built(make_pairs(2), max_tokens=5)
    assert empty.status_counts() == {"prompt_too_long": 2}
    with pytest.raises(StoreError, match="no sample that could be run again"):
        recompute(empty, 2, tiny_model, tiny_sae)
