"""Several hook points and SAEs in one pass, each in an ordinary store of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trimtab.errors import StoreError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs.sample import Sample
from trimtab.store import build, build_many
from trimtab.store.building.batches import Tokenised
from trimtab.store.building.capture import capture
from trimtab.store.building.targets import store_names

Pairs = Callable[..., list[Sample]]

DEEP = HookPoint(3, "hook_resid_post")


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Samples and encoders of every batch that runs."""
    seen: list[tuple[int, int]] = []

    def counting(model: LanguageModel, batch: list[Tokenised], encoders: Any) -> object:
        seen.append((len(batch), len(encoders)))
        return capture(model, batch, encoders)

    monkeypatch.setattr("trimtab.store.building.worker.capture", counting)
    return seen


def test_one_pass_writes_what_a_pass_for_each_would(
    tmp_path: Path,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    make_pairs: Pairs,
    small_tasks: None,
    forwards: list[tuple[int, int]],
) -> None:
    reads: dict[str, SAE | HookPoint] = {
        "sae": tiny_sae,
        "deep": DEEP,
        "embeddings": HookPoint(0, "hook_resid_pre"),
    }
    together = build_many(
        {tmp_path / "many" / name: read for name, read in reads.items()},
        make_pairs(5),
        tiny_model,
        progress=False,
    )
    assert {n for _, n in forwards} == {3}
    assert sum(n for n, _ in forwards) == 5
    for name, read in reads.items():
        sae = None if isinstance(read, HookPoint) else read
        point = read if isinstance(read, HookPoint) else None
        alone = build(
            tmp_path / name, make_pairs(5), tiny_model, sae, hook_point=point, progress=False
        )
        store = together[tmp_path / "many" / name]
        assert store.content_hash == alone.content_hash
        assert store.fingerprint == alone.fingerprint
        assert store.verify() == []


def test_only_stores_that_lack_a_task_take_part_in_it(
    tmp_path: Path,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    make_pairs: Pairs,
    small_tasks: None,
    forwards: list[tuple[int, int]],
) -> None:
    reads: dict[Path, Any] = {tmp_path / "sae": tiny_sae, tmp_path / "deep": DEEP}
    expected = build_many(reads, make_pairs(6), tiny_model, progress=False)
    forwards.clear()
    (tmp_path / "deep" / "shards").rename(tmp_path / "away")
    marker = max((tmp_path / "sae" / "shards").glob("*.json"))
    marker.unlink()
    again = build_many(reads, make_pairs(6), tiny_model, progress=False)
    assert {path: store.content_hash for path, store in again.items()} == {
        path: store.content_hash for path, store in expected.items()
    }
    assert [n for _, n in forwards].count(2) == 1
    assert [n for _, n in forwards].count(1) == len(forwards) - 1
    forwards.clear()
    build_many(reads, make_pairs(6), tiny_model, progress=False)
    assert forwards == []


def test_a_refused_store_leaves_the_others_alone(
    tmp_path: Path, tiny_model: LanguageModel, tiny_sae: SAE, make_pairs: Pairs
) -> None:
    build(tmp_path / "a", make_pairs(1), tiny_model, tiny_sae, progress=False)
    with pytest.raises(StoreError, match="hook_point"):
        build_many(
            {tmp_path / "b": tiny_sae, tmp_path / "a": DEEP},
            make_pairs(2),
            tiny_model,
            progress=False,
        )
    assert not (tmp_path / "b" / "shards").exists()


def test_stores_are_named_by_hook_point_and_by_sae_where_two_share_one(tiny_sae: SAE) -> None:
    other = replace(tiny_sae, spec="release/layer_1/width 16k")
    assert store_names([tiny_sae, DEEP]) == ["blocks.1.hook_resid_post", "blocks.3.hook_resid_post"]
    assert store_names([tiny_sae, other]) == [
        "blocks.1.hook_resid_post.tiny",
        "blocks.1.hook_resid_post.release-layer_1-width-16k",
    ]
    with pytest.raises(StoreError, match="twice"):
        store_names([tiny_sae, tiny_sae])
