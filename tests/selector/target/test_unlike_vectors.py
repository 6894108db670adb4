"""The panel's vectors are many, unlike, of every kind, and drawn by their seed."""

import pytest
import torch

from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.target.vectors import unlike_vectors

D_MODEL = 96  # wide enough that twenty features do not span everything
GRADIENTS = {
    name: torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))
    for seed, name in enumerate(("dataset", "own replies"))
}
KINDS = (
    "dense mean difference", "its negative", "gradient of", "matched to", "random sample",
    "features by contrast", " + ", "feature ", "random direction",
)  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> Parts:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(30, 60, generator=generator) + torch.linspace(-2, 2, 60)
    features *= torch.rand(30, 60, generator=generator) < 0.5
    decoder = torch.randn(60, D_MODEL, generator=generator)
    residual = features @ decoder + torch.randn(30, D_MODEL, generator=generator)
    return Parts(tuple(f"s{i}" for i in range(30)), residual, features, decoder)


def test_a_panel_has_as_many_as_were_asked_for_of_every_kind(parts: Parts) -> None:
    found = unlike_vectors(parts, GRADIENTS, 48, seed=0)
    assert len(found) == 48
    for kind in KINDS:
        assert any(kind in name for name in found), kind
    small = unlike_vectors(parts, GRADIENTS, 24, seed=0)
    for kind in KINDS:
        assert any(kind in name for name in small), kind
    assert list(small) == list(found)[:24]


def test_the_dense_vector_comes_first(parts: Parts) -> None:
    (name, first) = next(iter(unlike_vectors(parts, GRADIENTS, 3, seed=0).items()))
    assert name == "dense mean difference"
    assert torch.equal(first, compose(parts, Choice(tuple(range(parts.n_samples)))))


def test_no_two_vectors_point_the_same_way(parts: Parts) -> None:
    found = torch.stack(list(unlike_vectors(parts, GRADIENTS, 40, seed=0).values()))
    unit = torch.nn.functional.normalize(found, dim=1)
    cosines = unit @ unit.T - 2 * torch.eye(40)
    assert float(cosines.max()) < 0.9995


def test_the_seed_decides(parts: Parts) -> None:
    one, same, other = (unlike_vectors(parts, GRADIENTS, 30, seed=seed) for seed in (0, 0, 1))
    assert list(one) == list(same)
    assert all(torch.equal(one[name], same[name]) for name in one)
    direction = "random direction 1"
    assert not torch.equal(one[direction], other[direction])


def test_without_features_the_other_kinds_fill_the_panel(parts: Parts) -> None:
    found = unlike_vectors(Parts(parts.sample_ids, parts.residual), GRADIENTS, 30, seed=0)
    assert len(found) == 30
    assert not any("feature" in name for name in found)


@pytest.mark.parametrize("n", [1, 2])
def test_few_samples_still_give_a_panel(parts: Parts, n: int) -> None:
    found = unlike_vectors(parts.rows(range(n)), {}, 12, seed=0)
    assert len(found) == 12
