"""Peak host memory of a build, and of one of ten times the text.

    python -m experiments.benchmarks.build_memory --samples 4000 --out memory.json

Each runs in a process of its own, with a tiny random model and an SAE of some 57 active features a
token, so that what is held and written is that of a real build, and the model's own share is small.
"""

import json
import multiprocessing
import resource
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

D_SAE, ACTIVE = 16_384, 57


class RandomSAE(nn.Module):
    """Every token has `ACTIVE` features of its own choice."""

    def __init__(self, d_in: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.W_dec = nn.Parameter(torch.randn(D_SAE, d_in, generator=generator) / d_in**0.5)
        self.b_dec = nn.Parameter(torch.zeros(d_in))

    def encode(self, x: Tensor) -> Tensor:
        """Features `(tokens, d_sae)` of activations `(tokens, d_in)`."""
        scores = x @ self.W_dec.T
        top = scores.topk(ACTIVE, dim=-1)
        return torch.zeros_like(scores).scatter_(-1, top.indices, top.values.abs())


def peak(n_samples: int, answer: Any) -> None:
    """Build, and send `(bytes before, peak bytes, tokens, activations)`."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    from trimtab.model.hook_points import HookPoint
    from trimtab.model.language_model import LanguageModel, load_model
    from trimtab.model.sae import SAE
    from trimtab.pairs.sample import Sample
    from trimtab.store import build
    from trimtab.store.reading.inventory import inventory

    tokenizer = load_model(dtype="bfloat16", device="cpu").tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    model = LanguageModel("tiny", module, tokenizer)
    sae = SAE("random", HookPoint(1, "hook_resid_post"), RandomSAE(16).requires_grad_(False))
    samples = [
        Sample(
            id=str(n),
            behavior="any",
            messages=({"role": "user", "content": f"Question {n}: " + f"what of {n * 7}? " * 20},),
            positive=f"Yes, {n}. " * 12,
            negative=f"No, never {n}. " * 12,
        )
        for n in range(n_samples)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with tempfile.TemporaryDirectory() as folder:
        held = inventory(build(folder, samples, model, sae, progress=False))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answer.send((before, after, held["n_tokens"], held["nnz"]))


def main(
    samples: Annotated[int, typer.Option(help="Pairs of the smaller build.")] = 4000,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Print both peaks."""
    context = multiprocessing.get_context("spawn")
    rows = []
    for count in (samples, 10 * samples):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=peak, args=(count, there), daemon=True)
        process.start()
        before, after, tokens, nnz = here.recv()
        process.join()
        rows.append({"before": before, "peak": after, "tokens": tokens, "nnz": nnz})
        typer.echo(
            f"{tokens:,} tokens, {nnz:,} activations: peak {after / 1e6:,.0f} MB,"
            f" {before / 1e6:,.0f} MB before the build"
        )
    if out is not None:
        out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    typer.run(main)
