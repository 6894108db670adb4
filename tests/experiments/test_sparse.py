"""The sparse training step is sae_lens' own, entry for entry."""

from typing import Any

import pytest
import torch

sae_lens = pytest.importorskip("sae_lens")
pytestmark = pytest.mark.filterwarnings("ignore")  # of sae_lens' dependencies

WIDTH = 96


@pytest.fixture(params=["batchtopk", "matryoshka"])
def steps(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A training SAE of sae_lens and the sparse one, with the same weights."""
    from sae_lens import (
        BatchTopKTrainingSAE,
        BatchTopKTrainingSAEConfig,
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
    )

    from experiments.sae.sparse import training_sae

    torch.manual_seed(0)
    shared = {"d_in": 32, "d_sae": WIDTH, "k": 5, "device": "cpu", "topk_threshold_lr": 0.1}
    if request.param == "batchtopk":
        config = BatchTopKTrainingSAEConfig(**shared)
        theirs = BatchTopKTrainingSAE(config)
    else:
        config = MatryoshkaBatchTopKTrainingSAEConfig(**shared, matryoshka_widths=[8, 32, WIDTH])
        theirs = MatryoshkaBatchTopKTrainingSAE(config)
    with torch.no_grad():
        theirs.b_enc.normal_(0, 0.1)
        theirs.b_dec.normal_()
        theirs.W_dec.mul_(torch.rand(WIDTH, 1) + 0.5)
    ours = training_sae(config)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("dead", [0.0, 0.2])
def test_losses_gradients_active_features_and_threshold_are_those_of_sae_lens(
    steps: tuple[Any, Any], dead: float
) -> None:
    from sae_lens.saes.sae import TrainStepInput

    theirs, ours = steps
    for seed in range(3):  # from the second step on, the last one's lowest score is used
        torch.manual_seed(seed)
        given = TrainStepInput(
            sae_in=torch.randn(64, 32) @ torch.randn(32, 32),
            dead_neuron_mask=torch.rand(WIDTH) < dead,
            coefficients={},
            n_training_steps=seed,
            is_logging_step=False,
        )
        wanted, found = theirs.training_forward_pass(given), ours.training_forward_pass(given)
        assert wanted.losses.keys() == found.losses.keys()
        for name, loss in wanted.losses.items():
            torch.testing.assert_close(found.losses[name], loss)
        torch.testing.assert_close(found.loss, wanted.loss)
        torch.testing.assert_close(found.sae_out, wanted.sae_out, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.feature_acts.to_dense(), wanted.feature_acts)
        torch.testing.assert_close(ours.topk_threshold, theirs.topk_threshold)
        for sae, output in ((theirs, wanted), (ours, found)):
            sae.zero_grad()
            output.loss.backward()
        for (name, p), q in zip(theirs.named_parameters(), ours.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-3, msg=name)


def test_fewer_positive_scores_than_asked_for_are_all_active() -> None:
    from experiments.sae.sparse import _active

    score = torch.tensor([[1.0, -1.0, 0.0], [-2.0, 3.0, -1.0]])
    rows, columns = _active(score, 5, before=9.0)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 0), (1, 1)]


def test_the_benchmark_times_both_on_the_same_steps(capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.benchmarks.sparse_step import benchmark

    benchmark(width=WIDTH, d_model=32, k=5, batch=64, rounds=1)
    printed = capsys.readouterr().out
    assert "ratio" in printed
    assert float(printed.split("steps ")[-1].split()[0]) < 1e-4
