"""Steps of sae_lens' SAE trainer against the same steps computed where features are active.

    python -m experiments.benchmarks.sparse_step --width 9216

The two take turns on the same batches from the same weights; their losses are compared at the end.
"""

import time
from typing import Annotated, Any

import torch
import typer


def benchmark(
    width: Annotated[int, typer.Option(help="Number of features.")] = 9216,
    d_model: Annotated[int, typer.Option()] = 576,
    k: Annotated[int, typer.Option()] = 48,
    batch: Annotated[int, typer.Option(help="Tokens a step.")] = 1024,
    rounds: Annotated[int, typer.Option(help="Steps that are timed.")] = 8,
) -> None:
    """Print seconds a step, their ratio, and how far the losses are apart."""
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    from experiments.sae.sparse import SparseBatchTopK

    torch.manual_seed(0)
    config = BatchTopKTrainingSAEConfig(d_in=d_model, d_sae=width, k=k, device="cpu")
    dense, sparse = BatchTopKTrainingSAE(config), SparseBatchTopK(config)
    sparse.load_state_dict(dense.state_dict())
    mixing = torch.randn(d_model, d_model) / d_model**0.5
    batches = [torch.randn(batch, d_model) @ mixing for _ in range(rounds + 2)]
    trainers = {"sae_lens": _trainer(dense, batch), "sparse": _trainer(sparse, batch)}
    seconds = dict.fromkeys(trainers, 0.0)
    losses: dict[str, float] = {}
    for number, x in enumerate(batches):
        for name, trainer in trainers.items():
            begun = time.perf_counter()
            losses[name] = float(trainer.step(x).loss.detach())
            if number >= 2:  # the first steps warm up
                seconds[name] += time.perf_counter() - begun
    for name, total in seconds.items():
        typer.echo(f"{name}: {total / rounds:.3f} s a step, {rounds * batch / total:,.0f} tokens/s")
    apart = abs(losses["sparse"] / losses["sae_lens"] - 1)
    ratio = seconds["sae_lens"] / seconds["sparse"]
    typer.echo(f"ratio {ratio:.1f}; losses after {len(batches)} steps {apart:.1e} apart")


def _trainer(sae: Any, batch: int) -> Any:
    from sae_lens import SAETrainer
    from sae_lens.config import SAETrainerConfig

    config = SAETrainerConfig(
        total_training_samples=10**9, train_batch_size_samples=batch, lr=1e-3, lr_end=1e-3
    )
    return SAETrainer(config, sae, iter(()))


if __name__ == "__main__":
    typer.run(benchmark)
