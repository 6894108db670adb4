from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trimtab.errors import StoreError
from trimtab.model.language_model import LanguageModel
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build, open_store
from trimtab.store.reading import cache
from trimtab.store.reading.matrices import Pooling
from trimtab.store.reading.sandbox import query

Pairs = Callable[..., list[Sample]]
Build = Callable[..., Store]


def side_tensors(store: Store, behavior: str, pooling: str) -> dict[str, dict[str, torch.Tensor]]:
    """Pooled features `(48,)` and residual `(16,)` in one, by side and sample id."""
    found: dict[str, dict[str, torch.Tensor]] = {"positive": {}, "negative": {}}
    residual_pooling = "last" if pooling == "last" else "mean"
    rows = store.sql(
        f"SELECT sample_id, side, {residual_pooling} FROM residuals WHERE behavior = ?", [behavior]
    )
    for sample_id, side, residual in rows.iter_rows():
        found[side][sample_id] = torch.cat([torch.zeros(48), torch.tensor(residual)])
    rows = store.sql(
        f"SELECT sample_id, side, feature, {pooling} FROM pooled"
        " WHERE behavior = ? AND side <> 'prompt'",
        [behavior],
    )
    for sample_id, side, feature, value in rows.iter_rows():
        found[side][sample_id][feature] = value
    return found


@pytest.mark.parametrize("pooling", ["mean", "last", "max"])
def test_a_pairs_row_is_positive_less_negative(store: Store, pooling: Pooling) -> None:
    matrix = store.matrix("refusal", pooling=pooling)
    assert matrix.sample_ids == [f"pair-{i}" for i in range(7)]
    assert matrix.features is not None
    assert matrix.features.dtype == matrix.residual.dtype == torch.float32
    sides = side_tensors(store, "refusal", pooling)
    rows = torch.cat([matrix.features, matrix.residual], dim=1)
    for row, sample_id in zip(rows, matrix.sample_ids, strict=True):
        expected = sides["positive"][sample_id] - sides["negative"][sample_id]
        torch.testing.assert_close(row, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "last", "max"])
def test_unpaired_rows_average_to_the_difference_of_the_sides_means(
    store: Store, pooling: Pooling
) -> None:
    matrix = store.matrix("tone", pooling=pooling)
    assert matrix.sample_ids == [f"text-{i}" for i in range(5)]
    assert matrix.features is not None
    sides = side_tensors(store, "tone", pooling)
    pos, neg = (torch.stack(list(sides[side].values())) for side in ("positive", "negative"))
    rows = torch.cat([matrix.features, matrix.residual], dim=1)
    expected = pos.mean(dim=0) - neg.mean(dim=0)
    torch.testing.assert_close(rows.mean(dim=0), expected, atol=1e-5, rtol=1e-5)
    centre = torch.cat([pos, neg]).mean(dim=0)
    torch.testing.assert_close(rows[0], (pos[0] - centre) * 5 / 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows[2], -(neg[0] - centre) * 5 / 3, atol=1e-5, rtol=1e-5)


def test_chosen_features_are_columns_in_the_order_asked_for(store: Store) -> None:
    full = store.matrix("refusal")
    some = store.matrix("refusal", features=[40, 3])
    assert full.features is not None
    assert some.features is not None
    assert torch.equal(some.features, full.features[:, [40, 3]])
    assert torch.equal(some.residual, full.residual)
    with pytest.raises(StoreError, match="from 0 to 47"):
        store.matrix("refusal", features=[48])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """SQL that matrices ask while the test runs, with a cache of its own."""
    asked: list[str] = []

    def spy(catalog: object, sql: str, *arguments: Any, **options: Any) -> Any:
        asked.append(sql)
        return query(catalog, sql, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("trimtab.store.reading.matrices.query", spy)
    cache.clear()
    yield asked
    cache.set_budget("cpu", None)
    cache.clear()


def test_a_search_reads_the_disk_once(store: Store, reads: list[str]) -> None:
    first = store.matrix("refusal")
    n = len(reads)
    assert n > 0
    for trial in range(200):
        assert store.matrix("refusal") is first
        assert open_store(store.path).matrix("refusal", features=[trial % 48]).features is not None
    assert len(reads) == n
    assert store.matrix("refusal", pooling="last") is not first
    assert len(reads) == 2 * n


def test_threads_that_ask_at_once_share_one_read(store: Store, reads: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store.matrix("refusal"), range(8)))
    assert all(matrix is found[0] for matrix in found)
    assert sum("data.pooled" in sql for sql in reads) == 1


ROW = 4 * (48 + 16)  # bytes


def test_what_was_not_used_for_longest_makes_room(store: Store, reads: list[str]) -> None:
    cache.set_budget("cpu", (7 + 7 + 5) * ROW)
    mean, tone = store.matrix("refusal"), store.matrix("tone")
    last = store.matrix("refusal", pooling="last")
    assert cache.held("cpu") == (7 + 7 + 5) * ROW
    assert store.matrix("refusal") is mean
    store.matrix("refusal", pooling="max")  # 7 rows: "tone" alone is too little
    assert cache.held("cpu") == (7 + 7) * ROW
    assert store.matrix("refusal") is mean
    assert store.matrix("tone") is not tone
    assert store.matrix("refusal", pooling="last") is not last
    assert cache.held("cpu") <= (7 + 7 + 5) * ROW


def test_another_fingerprint_or_content_is_another_matrix(
    built: Build, make_pairs: Pairs, reads: list[str]
) -> None:
    small = built(make_pairs(3))
    first = small.matrix("refusal")
    assert built(make_pairs(4)).matrix("refusal").sample_ids != first.sample_ids
    assert built(make_pairs(3), "copy").matrix("refusal") is first
    other = built(make_pairs(3), "other", chat=False)
    assert other.matrix("refusal") is not first


def test_where_not_everything_fits_the_features_that_fire_do(
    built: Build, texts: list[Sample], reads: list[str]
) -> None:
    store = built([replace(texts[0], positive="so", negative="I")])
    full = store.matrix("tone")
    assert full.features is not None
    assert list(full.feature_ids) == list(range(48))
    firing = store.sql(
        "SELECT DISTINCT feature FROM pooled WHERE behavior = 'tone' AND side <> 'prompt'"
        " ORDER BY feature"
    )["feature"].to_list()
    assert len(firing) < 48
    cache.clear()
    cache.set_budget("cpu", ROW - 1)
    some = store.matrix("tone")
    assert some.features is not None
    assert list(some.feature_ids) == firing
    assert torch.equal(some.features, full.features[:, firing])
    assert torch.equal(some.residual, full.residual)
    assert store.matrix("tone") is some
    silent = next(feature for feature in range(48) if feature not in firing)
    asked = store.matrix("tone", features=[firing[3], silent, firing[0], firing[3]])
    assert asked.features is not None
    expected = full.features[:, [firing[3], silent, firing[0], firing[3]]]
    assert torch.equal(asked.features, expected)
    with pytest.raises(StoreError, match=f"features \\[{silent}\\] are not among"):
        some.select([silent])
    some = store.matrix("tone")
    cache.set_budget("cpu", 3 * ROW)  # now everything fits beside it
    assert store.matrix("tone") is some
    grown = store.matrix("tone", features=[silent, firing[0]])
    assert grown.features is not None
    assert torch.equal(grown.features, full.features[:, [silent, firing[0]]])
    assert list(store.matrix("tone").feature_ids) == list(range(48))


@pytest.mark.parametrize("behavior", ["refusal", "tone"])
def test_what_does_not_fit_at_all_goes_in_blocks(
    store: Store, reads: list[str], behavior: str
) -> None:
    full = store.matrix(behavior)
    assert full.features is not None
    cache.clear()
    cache.set_budget("cpu", 7 * 4 * 20)  # a block is a quarter: five columns of seven rows
    with pytest.raises(StoreError, match=r"do not fit into the budget of cpu, 560 bytes.*blocks"):
        store.matrix(behavior)
    seen = torch.zeros_like(full.features)
    total = 0
    for block in store.blocks(behavior):
        assert block.features is not None
        assert 4 * block.features.numel() <= 560 / 4
        assert block.sample_ids == full.sample_ids
        assert torch.equal(block.residual, full.residual)
        seen[:, list(block.feature_ids)] = block.features
        total += 1
    assert total > 3
    assert torch.equal(seen, full.features)
    assert cache.held("cpu") == 0


def test_blocks_without_an_sae_are_the_residuals(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs
) -> None:
    dense = build(tmp_path / "dense", make_pairs(3), tiny_model, None, progress=False)
    (block,) = dense.blocks("refusal")
    assert block.features is None
    assert torch.equal(block.residual, dense.matrix("refusal").residual)
    with pytest.raises(StoreError, match="without an SAE"):
        dense.matrix("refusal", features=[0])


def test_what_cannot_be_contrasted_is_refused(
    built: Build, store: Store, make_pairs: Pairs, texts: list[Sample]
) -> None:
    with pytest.raises(StoreError, match="no usable sample of behaviour 'nothing'"):
        store.matrix("nothing")
    with pytest.raises(StoreError, match=r"pooling 'sum'.*mean, last, max"):
        store.matrix("refusal", pooling="sum")  # type: ignore[arg-type]
    mixed = built([*make_pairs(1, "tone"), *texts], "mixed")
    with pytest.raises(StoreError, match="mixes 1 pairs with 5 unpaired"):
        mixed.matrix("tone")
    one_side = built(texts[:2], "one-side")
    with pytest.raises(StoreError, match="no negative text"):
        one_side.matrix("tone")
