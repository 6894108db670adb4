"""Clamping features: exact where nothing changes, and only what it names elsewhere."""

import pytest
import torch
from torch import Tensor, nn

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit, residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.steering.clamp import FeatureClamp

POINT = HookPoint(1, "hook_resid_post")
IDS = torch.tensor([[1, 30, 41, 52, 63, 74, 85, 96]])


class Orthonormal(nn.Module):
    """Eight orthonormal directions of sixteen, so that features do not disturb one another."""

    def __init__(self) -> None:
        super().__init__()
        noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(2))
        self.W_dec = nn.Parameter(torch.linalg.qr(noise)[0][:8].contiguous())
        self.b_dec = nn.Parameter(torch.linspace(-0.2, 0.2, 16))

    def encode(self, x: Tensor) -> Tensor:
        pre = (x - self.b_dec) @ self.W_dec.T
        return pre * (pre > 0.1)


@pytest.fixture(scope="module")
def sae() -> SAE:
    return SAE("orthonormal", POINT, Orthonormal().requires_grad_(False))


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(4, 50, 16, generator=torch.Generator().manual_seed(3))


def change(sae: SAE, values: dict[int, float], x: Tensor, multiplier: float = 1.0) -> Tensor:
    found = FeatureClamp(sae, values).edit(multiplier)
    assert found is not None
    return found(x)


def test_where_no_feature_changes_no_bit_changes(sae: SAE, x: Tensor) -> None:
    clamped = change(sae, {2: 0.0, 5: 0.0}, x)
    active = (sae.encode(x)[..., [2, 5]] > 0).any(-1)
    assert 0 < active.sum() < active.numel()  # both kinds of token are there
    assert torch.equal(clamped[~active], x[~active])
    assert not (clamped[active] == x[active]).all(-1).any()


def test_a_clamped_feature_reads_back_its_value_and_the_others_stay(sae: SAE, x: Tensor) -> None:
    before = sae.encode(x)
    after = sae.encode(change(sae, {2: 1.5, 5: 0.25}, x, multiplier=2.0))
    for feature, value in ((2, 3.0), (5, 0.5)):
        read = after[..., feature][before[..., feature] > 0]
        torch.testing.assert_close(read, torch.full_like(read, value), atol=1e-5, rtol=0)
    rest = [0, 1, 3, 4, 6, 7]
    torch.testing.assert_close(after[..., rest], before[..., rest], atol=1e-5, rtol=0)


def test_what_the_sae_does_not_reconstruct_stays(sae: SAE, x: Tensor) -> None:
    before = sae.encode(x)
    set_to = before.clone()
    set_to[..., 3] = 4.0
    error = x - sae.decode(before)
    assert error.norm(dim=-1).min() > 0.1
    clamped = change(sae, {3: 4.0}, x)
    torch.testing.assert_close(clamped - sae.decode(set_to), error, atol=1e-5, rtol=0)


def test_a_value_of_0_ablates(sae: SAE, x: Tensor) -> None:
    assert (sae.encode(x)[..., 4] > 0).any()
    assert not (sae.encode(change(sae, {4: 0.0}, x))[..., 4] > 0).any()


def test_in_a_model_a_clamp_acts_at_its_saes_hook_point_and_prompt_end(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    clamp = FeatureClamp(tiny_sae, {3: 2.0, 7: 0.0})
    assert clamp.hook_point == tiny_sae.hook_point
    before = residuals(tiny_model, IDS, None, [POINT])[POINT]
    found = clamp.edit(1.0)
    assert found is not None
    with torch.no_grad():
        plain = tiny_model.module(input_ids=IDS).logits
        with clamp.apply(tiny_model):
            logits = tiny_model.module(input_ids=IDS).logits
        expected = torch.cat([before[:, :-1], found(before)[:, -1:]], dim=1)
        with edit(tiny_model, POINT, lambda _: expected):
            assert torch.allclose(tiny_model.module(input_ids=IDS).logits, logits, atol=1e-6)
    assert torch.equal(logits[:, :-1], plain[:, :-1])
    assert not torch.allclose(logits[:, -1], plain[:, -1], atol=1e-3)


def test_clamping_to_what_is_there_leaves_a_models_logits_alone_bit_for_bit(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    features = tiny_sae.encode(residuals(tiny_model, IDS, None, [POINT])[POINT])
    silent = (features == 0).all(dim=1)[0].nonzero().flatten().tolist()
    assert silent
    clamp = FeatureClamp(tiny_sae, dict.fromkeys(silent, 0.0), "all")
    with torch.no_grad():
        plain = tiny_model.module(input_ids=IDS).logits
        with clamp.apply(tiny_model):
            assert torch.equal(tiny_model.module(input_ids=IDS).logits, plain)


def test_multiplier_0_sets_no_hook(sae: SAE) -> None:
    assert FeatureClamp(sae, {1: 2.0}).edit(0.0) is None


@pytest.mark.parametrize(
    ("values", "positions", "complaint"),
    [
        ({}, "all", "at least one"),
        ({8: 1.0}, "all", r"\[8\].*0\.\.7"),
        ({-1: 1.0}, "all", "-1"),
        ({1: float("nan")}, "all", "NaN"),
        ({1: 1.0}, "nowhere", "unknown positions"),
    ],
)
def test_clamps_that_cannot_be_are_refused(
    sae: SAE, values: dict[int, float], positions: str, complaint: str
) -> None:
    with pytest.raises(VectorError, match=complaint):
        FeatureClamp(sae, values, positions)  # type: ignore[arg-type]
