"""Candidates scored per second: trimtab, plain forwards batched at their best size, and the
steering-vectors package; the same numbers out, and beside them the bound that can be computed.

    python -m experiments.benchmarks.scoring experiments/benchmarks/results/scoring

On the default model in float32, by prompt length and completion length. The ways take turns;
ratios are of medians. A result that is there already is not measured again. Plain forwards cost
so much that they score two candidates where trimtab scores many.
`python -m experiments.benchmarks.scoring_table` writes the table.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from experiments.benchmarks.scoring_task import cost, make_task
from experiments.benchmarks.scoring_ways import (
    STEERING_VECTORS,
    install_steering_vectors,
    plain_effects,
    steering_vectors_effects,
    tokenise,
    trimtab_effects,
)
from experiments.benchmarks.store import machine
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.steering.margin import Margin

POINT = HookPoint(15, "hook_resid_post")
PROMPTS = (50, 100, 250)
CANDIDATES = {1: 256, 4: 64, 19: 32}  # by tokens of a completion
PLAIN_CANDIDATES = 2
BATCHES = (1, 2, 4, 8, 16, 32)
LENGTH = 40.0  # of a vector: about 0.1 nats of damage
TOLERANCE = 1e-4  # nats; effects are about 0.1


def seconds(way: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    begun = time.perf_counter()
    way()
    return time.perf_counter() - begun


def measure(
    model: LanguageModel, package: Any, prompt: int, completion: int, pairs: int, rounds: int
) -> dict[str, Any]:
    """Measure all ways on one task.

    Raises:
        AssertionError: two ways' effects differ.
    """
    task = make_task(model, pairs, prompt, completion)
    count = CANDIDATES[completion]
    vectors = torch.randn(count, model.d_model, generator=torch.Generator().manual_seed(0))
    vectors *= LENGTH / vectors.norm(dim=1, keepdim=True)
    few = vectors[:PLAIN_CANDIDATES]
    rows = tokenise(model, task)
    begun = time.perf_counter()
    margin = Margin(model, task.samples, POINT)
    prepared = time.perf_counter() - begun
    margin.base  # noqa: B018  measured once and kept

    def plain(vectors: Tensor, batch: int) -> Tensor:
        return plain_effects(model, POINT, rows, vectors, batch)

    def other(vectors: Tensor, batch: int) -> Tensor:
        return steering_vectors_effects(package, model, POINT, rows, vectors, batch)

    # A pass of each way at every size; the best one is measured.
    searched = {
        name: {batch: seconds(partial(way, few, batch)) for batch in BATCHES}
        for name, way in (("plain", plain), ("steering_vectors", other))
    }
    best = {name: min(found, key=lambda b: found[b]) for name, found in searched.items()}
    base = plain(torch.zeros(1, model.d_model), best["plain"])
    fast = trimtab_effects(margin, vectors)
    apart = {
        "plain": float((plain(few, best["plain"]) - base - fast[: len(few)]).abs().max()),
        "steering_vectors": float(
            (other(few, best["steering_vectors"]) - base - fast[: len(few)]).abs().max()
        ),
    }
    assert max(apart.values()) < TOLERANCE, apart

    times: dict[str, list[float]] = {"trimtab": [], "plain": [], "steering_vectors": []}
    for _ in range(rounds):
        times["trimtab"].append(seconds(partial(trimtab_effects, margin, vectors)) / count)
        times["plain"].append(seconds(partial(plain, few, best["plain"])) / len(few))
        theirs = seconds(partial(other, few, best["steering_vectors"]))
        times["steering_vectors"].append(theirs / len(few))
    median = {name: statistics.median(found) for name, found in times.items()}
    needed = cost(model.module.config, task, POINT.layer + 1)
    ratio = median["plain"] / median["trimtab"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "pairs": pairs,
        "candidates": count,
        "threads": torch.get_num_threads(),
        "multiply_adds": {"plain": needed.plain, "trimtab": needed.fast},
        "bound": needed.bound,
        "ratio": ratio,
        "share_of_bound": ratio / needed.bound,
        "ratio_to_steering_vectors": median["steering_vectors"] / median["trimtab"],
        "candidates_per_second": {name: 1 / found for name, found in median.items()},
        "seconds_to_prepare": prepared,
        "seconds_per_candidate": times,
        "batch_sizes": {"best": best, "seconds": searched},
        "largest_difference": apart,
        "mean_absolute_effect": float(fast.abs().mean()),
    }


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the results.")],
    pairs: Annotated[int, typer.Option(help="Pairs that a candidate is scored on.")] = 8,
    rounds: Annotated[int, typer.Option(help="Times that every way is run.")] = 5,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 1,
) -> None:
    """Measure what is not measured yet."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    model = load_model(dtype="float32", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        package = install_steering_vectors(Path(folder))
        for completion in CANDIDATES:
            for prompt in PROMPTS:
                file = out / f"prompt_{prompt}_completion_{completion}.json"
                if file.exists():
                    continue
                before = {**machine(), "steering_vectors": STEERING_VECTORS}
                result = measure(model, package, prompt, completion, pairs, rounds)
                file.write_text(json.dumps({"machine": before, "result": result}, indent=1) + "\n")
                typer.echo(
                    f"{prompt} + {completion} tokens: {result['ratio']:.1f} x plain, "
                    f"{result['share_of_bound']:.0%} of the bound {result['bound']:.1f}"
                )


if __name__ == "__main__":
    typer.run(main)
