"""The algebra that everything rests on, and the receipt that follows from it."""

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.selector.exported.receipt import receipt
from trimtab.selector.parts import Choice, Parts, compose, everything, shares, terms

N, D_MODEL, D_SAE = 8, 5, 10
algebra = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 10_000)
some_samples = st.lists(st.integers(0, N - 1), min_size=1, unique=True).map(tuple)
some_features = st.lists(st.integers(0, D_SAE - 1), min_size=1, unique=True).map(tuple)


def random_parts(seed: int) -> Parts:
    generator = torch.Generator().manual_seed(seed)
    return Parts(
        tuple(f"s{i}" for i in range(N)),
        torch.randn(N, D_MODEL, generator=generator),
        torch.randn(N, D_SAE, generator=generator).relu(),
        torch.randn(D_SAE, D_MODEL, generator=generator),
    )


def weights(seed: int, count: int) -> tuple[float, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(count, generator=generator).tolist())


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.double(), other.double(), atol=1e-5, rtol=1e-5)


@algebra
@given(seeds, some_samples, some_features)
def test_shares_times_directions_sum_to_the_vector(
    seed: int, samples: tuple[int, ...], features: tuple[int, ...]
) -> None:
    parts = random_parts(seed)
    assert parts.decoder is not None
    choice = Choice(samples, features, weights(seed, len(features)))
    factors = shares(parts, choice)
    assert factors.shape == (len(samples), len(features))
    total = torch.zeros(D_MODEL, dtype=torch.float64)
    for i in range(len(samples)):
        for j, feature in enumerate(features):
            total += factors[i, j] * parts.decoder[feature].double()
    assert close(total, compose(parts, choice))
    dense = Choice(samples)
    by_sample = shares(parts, dense)[:, 0] @ parts.residual[list(samples)].double()
    assert close(by_sample, compose(parts, dense))


@algebra
@given(seeds, seeds, st.floats(-3, 3), st.floats(-3, 3), some_samples, some_features)
def test_the_vector_is_linear_in_the_samples_rows(
    seed: int, other: int, x: float, y: float, samples: tuple[int, ...], features: tuple[int, ...]
) -> None:
    one, two = random_parts(seed), random_parts(other)
    assert one.features is not None
    assert two.features is not None
    mixed = Parts(
        one.sample_ids,
        x * one.residual + y * two.residual,
        x * one.features + y * two.features,
        one.decoder,
    )
    two = Parts(two.sample_ids, two.residual, two.features, one.decoder)
    for choice in (Choice(samples), Choice(samples, features, weights(seed, len(features)))):
        assert close(compose(mixed, choice), x * compose(one, choice) + y * compose(two, choice))


@algebra
@given(seeds, some_samples, some_features, st.floats(0, 3), st.floats(0, 3))
def test_the_vector_is_linear_in_the_coefficients(
    seed: int, samples: tuple[int, ...], features: tuple[int, ...], x: float, y: float
) -> None:
    parts = random_parts(seed)
    a, b = weights(seed, len(features)), weights(seed + 1, len(features))
    mixed = tuple(x * p + y * q for p, q in zip(a, b, strict=True))
    found = compose(parts, Choice(samples, features, mixed))
    expected = x * compose(parts, Choice(samples, features, a)) + y * compose(
        parts, Choice(samples, features, b)
    )
    assert close(found, expected)


@algebra
@given(seeds, st.integers(0, N - 1), some_features)
def test_leaving_one_sample_out_is_exact_and_free(
    seed: int, left_out: int, features: tuple[int, ...]
) -> None:
    parts = random_parts(seed)
    rest = tuple(i for i in range(N) if i != left_out)
    for kept in (None, features):
        whole = compose(parts, Choice(tuple(range(N)), kept))
        own = compose(parts, Choice((left_out,), kept))
        assert close(compose(parts, Choice(rest, kept)), (N * whole - own) / (N - 1))


@algebra
@given(seeds, some_samples)
def test_disjoint_sets_of_features_add_up_and_their_order_is_nothing(
    seed: int, samples: tuple[int, ...]
) -> None:
    parts = random_parts(seed)
    one, other = (0, 3, 4), (7, 1)
    whole = compose(parts, Choice(samples, other + one))
    assert close(
        whole, compose(parts, Choice(samples, one)) + compose(parts, Choice(samples, other))
    )
    assert close(whole, compose(parts, Choice(tuple(reversed(samples)), one + other)))


def test_no_coefficients_are_coefficients_of_one() -> None:
    parts = random_parts(0)
    assert torch.equal(
        compose(parts, Choice((0, 1), (2, 3))),
        compose(parts, Choice((0, 1), (2, 3), (1.0, 1.0))),
    )


def test_everything_is_every_sample_and_every_feature_that_fired(parts: Parts) -> None:
    assert everything(parts) == Choice(tuple(range(30)), tuple(range(38)))
    assert parts.features is not None
    assert parts.decoder is not None
    assert close(compose(parts, everything(parts)), parts.features.mean(0) @ parts.decoder)


def test_without_an_sae_everything_is_every_sample(dense_parts: Parts) -> None:
    assert everything(dense_parts) == Choice(tuple(range(30)))
    assert close(compose(dense_parts, everything(dense_parts)), dense_parts.residual.mean(0))


def test_features_of_parts_without_an_sae_are_refused(dense_parts: Parts) -> None:
    with pytest.raises(SelectionError, match="no SAE features"):
        compose(dense_parts, Choice((0,), (1,)))


def test_rows_keep_their_names(parts: Parts) -> None:
    some = parts.rows([4, 1])
    assert some.sample_ids == ("s4", "s1")
    assert some.n_samples == 2
    assert some.features is not None
    assert parts.features is not None
    assert torch.equal(some.residual, parts.residual[[4, 1]])
    assert torch.equal(some.features, parts.features[[4, 1]])


@pytest.mark.parametrize(
    ("samples", "features", "coefficients", "complaint"),
    [
        ((), None, None, "at least one"),
        ((0,), (), None, "at least one"),
        ((0, 1, 0), None, None, "sample is chosen twice"),
        ((0,), (2, 2), None, "feature is chosen twice"),
        ((0,), (1, 2), (1.0,), "one coefficient for each"),
        ((0,), None, (1.0,), "one coefficient for each"),
        ((0,), (1, 2), (1.0, -0.1), "negative"),
    ],
)
def test_choices_that_make_no_vector_are_refused(
    samples: tuple[int, ...],
    features: tuple[int, ...] | None,
    coefficients: tuple[float, ...] | None,
    complaint: str,
) -> None:
    with pytest.raises(SelectionError, match=complaint):
        Choice(samples, features, coefficients)


@pytest.mark.parametrize(
    "choice",
    [
        Choice((3, 1, 7)),
        Choice((3, 1, 7), (5, 0, 20)),
        Choice((3, 1, 7, 9), (5, 0, 20, 39), (0.5, 2.0, 0.1, 4.0)),
    ],
    ids=["dense", "features", "coefficients"],
)
def test_a_receipts_contributions_sum_to_the_vectors_length(parts: Parts, choice: Choice) -> None:
    rows = receipt(parts, choice)
    vector = compose(parts, choice)
    assert rows["contribution"].sum() == pytest.approx(float(vector.norm()), rel=1e-6)
    sizes = rows["contribution"].abs().to_list()
    assert sizes == sorted(sizes, reverse=True)
    assert rows["share"].is_not_nan().all()
    assert (rows["share"] != 0).all()
    assert rows.schema["feature"] == pl.Int64
    assert set(rows["sample_id"]) <= {f"s{i}" for i in choice.samples}


def test_a_receipt_without_features_has_a_row_a_sample_with_the_same_share(parts: Parts) -> None:
    rows = receipt(parts, Choice((3, 1, 7)))
    assert rows["feature"].is_null().all()
    assert rows["share"].to_list() == pytest.approx([1 / 3] * 3)


def test_a_receipts_rows_rebuild_the_vector(parts: Parts) -> None:
    assert parts.decoder is not None
    choice = Choice((3, 1, 7), (5, 0, 20), (0.5, 2.0, 0.1))
    rows = receipt(parts, choice)
    directions = parts.decoder[rows["feature"].to_list()].double()
    total = torch.tensor(rows["share"].to_list(), dtype=torch.float64) @ directions
    assert close(total, compose(parts, choice))


@pytest.mark.parametrize(
    "choice", [Choice((3, 1, 7)), Choice((3, 1, 7), (5, 0, 20), (0.5, 2.0, 0.1))]
)
def test_what_each_part_adds_sums_to_the_vector(parts: Parts, choice: Choice) -> None:
    of_samples, of_features = terms(parts, choice)
    assert of_samples.shape == (3, 12)
    assert len(of_features) == len(choice.features or (None,))
    for each in (of_samples, of_features):
        assert close(each.sum(0), compose(parts, choice))
    alone = Choice(choice.samples[:1], choice.features, choice.coefficients)
    assert close(3 * of_samples[0], compose(parts, alone))
