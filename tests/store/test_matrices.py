from collections.abc import Callable

import pytest
import torch

from trimtab.errors import StoreError
from trimtab.pairs.sample import Sample
from trimtab.store import Store
from trimtab.store.matrices import Pooling

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
        f"SELECT sample_id, side, feature, {pooling} FROM pooled WHERE behavior = ?", [behavior]
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


def test_a_matrix_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.matrix("refusal")
    monkeypatch.setattr("trimtab.store.store.differences", None)
    assert store.matrix("refusal") is first
    with pytest.raises(TypeError):
        store.matrix("tone", pooling="last", device="meta")


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
