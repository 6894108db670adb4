"""What an SAE is said to reconstruct is what it reconstructs."""

import pytest
import torch
from torch import Tensor, nn

from experiments.sae.evaluate import Reading, decoder_cosines, measure, plain_windows, read
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE

POINT = HookPoint(1, "hook_resid_post")


class Scaled(nn.Module):
    """Two features a dimension, one for each sign; writes `scale` times what it reads."""

    def __init__(self, width: int, scale: float, center: Tensor) -> None:
        super().__init__()
        rows = torch.eye(width)
        self.W_dec = nn.Parameter(scale * torch.cat([rows, -rows]))
        self.b_dec = nn.Parameter(center)

    def encode(self, x: Tensor) -> Tensor:
        x = x - self.b_dec
        return torch.cat([x.relu(), (-x).relu()], dim=-1)


@pytest.fixture(scope="module")
def reading(tiny_model: LanguageModel) -> Reading:
    words = "The quick brown fox jumps over the lazy dog, of course; think of the answer. " * 20
    ids = plain_windows(tiny_model, words, count=6, length=24)
    assert [len(window) for window in ids] == [24] * 6
    return read(tiny_model, POINT, [*ids, ids[0][:9]])  # of unlike lengths


def sae(reading: Reading, scale: float) -> SAE:
    module = Scaled(len(reading.mean), scale, reading.mean.clone()).requires_grad_(False)
    return SAE("scaled", POINT, module)


def test_an_exact_reconstruction_explains_and_recovers_everything(reading: Reading) -> None:
    found = measure(sae(reading, 1.0), reading)
    assert found["explained_variance"] == pytest.approx(1, abs=1e-6)
    assert found["recovered_against_zero"] == pytest.approx(1, abs=1e-4)
    assert found["recovered_against_mean"] == pytest.approx(1, abs=1e-4)
    assert found["norm_ratio"] == pytest.approx(1, abs=1e-5)
    assert found["l0"] == pytest.approx(len(reading.mean))  # one sign of each dimension
    assert found["tokens"] == sum(int(use.sum()) for use in reading.use)


def test_the_mean_in_every_place_explains_nothing(reading: Reading) -> None:
    found = measure(sae(reading, 0.0), reading)
    assert found["explained_variance"] == pytest.approx(0, abs=1e-6)
    assert found["recovered_against_mean"] == pytest.approx(0, abs=1e-6)


def test_a_halved_reconstruction_explains_three_quarters_and_is_said_to_shrink(
    reading: Reading,
) -> None:
    found = measure(sae(reading, 0.5), reading)
    assert found["explained_variance"] == pytest.approx(0.75, abs=1e-5)
    assert found["reconstruction_bias"] == pytest.approx(0.5, abs=1e-5)


def test_first_tokens_and_pads_do_not_count(reading: Reading) -> None:
    for batch, use in zip(reading.batches, reading.use, strict=True):
        assert not bool(use[:, 0].any())
        assert not bool(use[batch.attention_mask == 0].any())


def test_decoder_cosines_tell_doubled_features(reading: Reading) -> None:
    module = Scaled(8, 1.0, torch.zeros(8))
    assert decoder_cosines(SAE("one", POINT, module))["q99"] == pytest.approx(0)
    module.W_dec.data[1] = 3 * module.W_dec.data[0]
    assert decoder_cosines(SAE("two", POINT, module))["share_above_0.9"] == pytest.approx(2 / 16)
