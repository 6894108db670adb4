"""What a build costs over the bare forward pass and SAE encode of the same batches.

    python -m experiments.benchmarks.build_overhead --samples 64 --rounds 5 --out overhead.json

The two take turns in one run, and the bare pass keeps nothing. "shards" is the build up to its last
shard; "whole" is with plan, fingerprint, catalog and a first look at it, which do not grow with the
model. The ratios are of medians.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.sae import SAE, load_sae
from trimtab.pairs import load_packaged
from trimtab.pairs.sample import Sample
from trimtab.store import build
from trimtab.store.building.batches import Settings, Tokenised, by_length, first_batch, tokenise
from trimtab.store.building.capture import DENSE, forward, unpadded
from trimtab.store.plan import Planned
from trimtab.store.shards import read_markers


def batches(
    samples: Sequence[Sample], model: LanguageModel, batch_tokens: int
) -> list[list[Tokenised]]:
    """The batches that a build of one task runs."""
    settings = Settings(chat=True, system=None, max_tokens=1024, batch_tokens=batch_tokens)
    planned = [Planned(number, "", sample) for number, sample in enumerate(samples)]
    waiting = by_length([tokenise(model, entry, settings) for entry in planned])
    found = []
    while waiting:
        found.append(first_batch(waiting, batch_tokens))
        waiting = waiting[len(found[-1]) :]
    return found


@torch.inference_mode()
def bare(model: LanguageModel, sae: SAE, work: list[list[Tokenised]]) -> float:
    """Seconds of forward and encode alone."""
    begun = time.perf_counter()
    for batch in work:
        tokens = unpadded(forward(model, batch, {sae.hook_point}), sae.hook_point)
        step = max(1, DENSE // sae.d_sae)
        for start in range(0, len(tokens), step):
            sae.encode(tokens[start : start + step])
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def built(
    model: LanguageModel, sae: SAE, samples: Sequence[Sample], batch_tokens: int
) -> tuple[float, float]:
    """Seconds up to the last shard, as the markers tell, and of the whole build."""
    with tempfile.TemporaryDirectory() as folder:
        begun, clock = time.perf_counter(), time.time()
        build(folder, samples, model, sae, batch_tokens=batch_tokens, progress=False)
        whole = time.perf_counter() - begun
        shards = Path(folder) / "shards"
        committed = max(path.stat().st_mtime for path in shards.glob("*.json"))
        assert read_markers(shards)
    return committed - clock, whole


def main(
    behavior: Annotated[str, typer.Option(help="A packaged contrast set.")] = "formality",
    samples: Annotated[int, typer.Option(help="Pairs.")] = 64,
    rounds: Annotated[int, typer.Option(help="Times that both are run.")] = 5,
    batch_tokens: Annotated[int, typer.Option(help="Padded tokens a batch.")] = 4096,
    dtype: Annotated[str, typer.Option(help="Of the model.")] = "float32",
    device: Annotated[str, typer.Option()] = "auto",
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Print the medians and their ratios."""
    model = load_model(dtype=dtype, device=device)
    sae = load_sae("default", model)
    assert sae is not None
    pairs = load_packaged(behavior)[:samples]
    work = batches(pairs, model, batch_tokens)
    model.fingerprint()  # hashes are made once a model, not once a build
    sae.fingerprint()
    bare(model, sae, work[:1])
    times: dict[str, list[float]] = {"bare": [], "shards": [], "whole": []}
    for _ in range(rounds):
        times["bare"].append(bare(model, sae, work))
        shards, whole = built(model, sae, pairs, batch_tokens)
        times["shards"].append(shards)
        times["whole"].append(whole)
    medians = {name: statistics.median(found) for name, found in times.items()}
    result = {
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "pairs": len(pairs),
        "tokens": sum(sample.n_tokens for batch in work for sample in batch),
        "seconds": medians,
        "shards_over_bare": medians["shards"] / medians["bare"],
        "whole_over_bare": medians["whole"] / medians["bare"],
        "rounds": times,
    }
    for name, seconds in medians.items():
        typer.echo(f"{name}: {seconds:.2f} s, {seconds / medians['bare']:.3f} of bare")
    if out is not None:
        out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
