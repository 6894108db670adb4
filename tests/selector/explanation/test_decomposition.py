"""A vector as a sum of features: planted ones are found, and chance is measured beside them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.model.sae import SAE
from trimtab.selector.explanation.decomposition import (
    SIZES,
    Decomposition,
    decompose,
    encoder_shift,
    least_squares,
    pursue,
    reconstruction,
)

D_MODEL, D_SAE = 24, 60


def decoder(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.rand(D_SAE, 1, generator=generator) + 0.5
    return lengths * torch.nn.functional.normalize(
        torch.randn(D_SAE, D_MODEL, generator=generator), dim=1
    )


def decomposed(direction: torch.Tensor) -> Decomposition:
    return decompose(direction, decoder(), torch.zeros(D_SAE), added=direction)


def by_size(found: Decomposition, way: str) -> dict[int, float]:
    return {row.features: row.cosine for row in found.explained if row.way == way}


def test_orthogonal_features_are_taken_in_the_order_of_what_they_give() -> None:
    atoms = torch.eye(D_MODEL) * torch.linspace(1, 3, D_MODEL)[:, None]
    direction = 5 * atoms[3] - 9 * atoms[7] + atoms[1]
    assert pursue(direction, atoms, 10) == [7, 3, 1]
    coefficients = least_squares(direction, atoms, [7, 3, 1])
    torch.testing.assert_close(coefficients, torch.tensor([-9.0, 5.0, 1.0]).double())
    torch.testing.assert_close(reconstruction(direction, atoms, [7, 3, 1]), direction)


@settings(max_examples=30, deadline=None)
@given(feature=st.integers(0, D_SAE - 1), factor=st.sampled_from([-30.0, -0.01, 0.01, 7.0]))
def test_a_vector_that_is_one_feature_is_that_feature(feature: int, factor: float) -> None:
    atoms = decoder()
    found = decomposed(factor * atoms[feature])
    assert found.pursued == (feature,)
    assert found.coefficients.tolist() == pytest.approx([factor], rel=1e-4)
    assert by_size(found, "pursuit") == {1: pytest.approx(1.0, abs=1e-6)}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 500), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_more_features_explain_more_and_the_scale_changes_nothing(seed: int, scale: float) -> None:
    direction = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))
    found, scaled = decomposed(direction), decomposed(scale * direction)
    cosines = by_size(found, "pursuit")
    ends = len(found.pursued)
    assert [*cosines] == sorted({*(size for size in SIZES if size <= ends), ends})
    assert list(cosines.values()) == sorted(cosines.values())
    for row in found.explained:
        if row.way in ("pursuit", "random direction"):  # a projection is as long as it is near
            assert row.norm == pytest.approx(row.cosine, abs=1e-6)
            assert 0 < row.cosine <= 1 + 1e-9
    assert scaled.pursued == found.pursued
    torch.testing.assert_close(scaled.coefficients, scale * found.coefficients, rtol=1e-3, atol=0.0)


def test_chance_explains_little_with_few_features_and_everything_with_many() -> None:
    atoms = decoder()
    planted = atoms[4] + 0.8 * atoms[9] - 0.9 * atoms[30]
    found = decomposed(planted)
    chance = by_size(found, "random direction")
    mine = by_size(found, "pursuit")
    assert set(found.pursued[:3]) == {4, 9, 30}
    assert mine[2] > chance[2] + 0.1
    assert mine[3] == pytest.approx(1.0, abs=1e-5)  # where the pursuit ends
    assert chance[3] < 0.9
    assert chance[16] > 0.95  # of 24 dimensions: why many features are no explanation


def test_the_encoders_choice_is_ordered_by_the_length_that_moves() -> None:
    atoms = decoder()
    shift = torch.zeros(D_SAE)
    shift[5], shift[6] = 2.0, -3.0
    direction = 2 * atoms[5] - 3 * atoms[6]
    found = decompose(direction, atoms, shift, added=direction)
    assert by_size(found, "encoder")[2] == pytest.approx(1.0, abs=1e-6)
    assert by_size(found, "encoder, least squares")[2] == pytest.approx(1.0, abs=1e-6)
    assert set(by_size(found, "encoder")) == {1, 2}  # no third feature moves
    (whole,) = (r for r in found.explained if (r.way, r.features) == ("encoder", 2))
    assert whole.norm == pytest.approx(1.0, abs=1e-6)


def test_the_encoders_shift_is_what_the_sae_says_with_less_what_it_says_without(
    tiny_sae: SAE,
) -> None:
    generator = torch.Generator().manual_seed(2)
    text = torch.randn(1500, tiny_sae.d_in, generator=generator)  # more than one block
    added = torch.randn(tiny_sae.d_in, generator=generator)
    expected = tiny_sae.encode(text + added).mean(0) - tiny_sae.encode(text).mean(0)
    torch.testing.assert_close(encoder_shift(tiny_sae, text, added), expected, atol=1e-5, rtol=1e-4)
    assert not encoder_shift(tiny_sae, text, torch.zeros(tiny_sae.d_in)).any()


def test_a_decomposition_repeats_itself() -> None:
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=D_MODEL)).float()
    assert decomposed(direction).explained == decomposed(direction).explained
