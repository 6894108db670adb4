"""Parts of a vector that the tests of this folder share."""

from collections.abc import Callable

import pytest
import torch

from trimtab.selector.parts import Parts

N, D_MODEL, D_SAE = 30, 12, 40


def make_parts(seed: int = 0, n: int = N) -> Parts:
    """Sparse differences as an SAE gives them; features 38 and 39 never fire."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, D_SAE, generator=generator) + torch.linspace(-2, 2, D_SAE)
    features *= torch.rand(n, D_SAE, generator=generator) < 0.5
    features[:, 38:] = 0.0
    decoder = torch.randn(D_SAE, D_MODEL, generator=generator)
    residual = features @ decoder + 0.3 * torch.randn(n, D_MODEL, generator=generator)
    return Parts(tuple(f"s{i}" for i in range(n)), residual, features, decoder)


@pytest.fixture(scope="session")
def new_parts() -> Callable[..., Parts]:
    """Make random parts by seed and number of samples."""
    return make_parts


@pytest.fixture(scope="session")
def parts() -> Parts:
    """Thirty samples, forty features, twelve dimensions."""
    return make_parts()


@pytest.fixture(scope="session")
def dense_parts(parts: Parts) -> Parts:
    """The same samples without an SAE."""
    return Parts(parts.sample_ids, parts.residual)
