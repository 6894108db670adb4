"""A store of random activations, as large as one asks for: queries can be timed without a model.

    python -m experiments.benchmarks.synthetic_store runs/synthetic --pairs 2000

Features follow Zipf's law and values are log-normal, which is roughly what SAEs give. With the
defaults there are 256,000 tokens and 14.5 million non-zeros.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from trimtab.pairs.sample import Sample
from trimtab.store import Store, open_store
from trimtab.store.files import write_atomically
from trimtab.store.fingerprint import FORMAT, digest
from trimtab.store.plan import Planned, by_task, extend_plan
from trimtab.store.shards import write_shard
from trimtab.store.store import HEADER

PROMPT, COMPLETION = 32, 48  # tokens
D_SAE, D_MODEL, VOCABULARY = 16_384, 576, 5_000
DRAWN = 65  # features a token, with repetitions: some 57 distinct ones remain
EXPONENT = 0.9


def synthetic_store(path: Path, pairs: int = 2000, *, dtype: str = "float32") -> Store:
    """Write a store of so many random pairs to the new folder `path`, and open it.

    `dtype` is that of the stored values, "float32" or "bfloat16".
    """
    fields = _fields(dtype)
    content = {"fingerprint_id": digest(fields), "fingerprint": fields}
    write_atomically(path / HEADER, json.dumps(content).encode())
    tasks = by_task(extend_plan(path / "plan", [_sample(number) for number in range(pairs)]))
    for number, (task, planned) in enumerate(tasks.items()):
        tables = _tables(np.random.default_rng(number), planned, dtype)
        facts = {"fingerprint": digest(fields), "samples": {"ok": len(planned)}, "n_truncated": 0}
        write_shard(path / "shards", task, tables, facts)
    return open_store(path)


def _fields(dtype: str) -> dict[str, str]:
    return {
        "store_format": FORMAT,
        "model": "synthetic",
        "model_revision": "",
        "model_dtype": dtype,
        "sae": "synthetic",
        "hook_point": "blocks.15.hook_resid_post",
        "d_model": str(D_MODEL),
        "d_sae": str(D_SAE),
        "prompt_form": "raw",
        "system_prompt": "default",
        "max_tokens": "1024",
        "value_dtype": dtype,
    }


def _sample(number: int) -> Sample:
    """As much text as its tokens would be, so that tasks are as large as real ones."""
    text = f"{number:06d} " + "abc " * 64
    message = {"role": "user", "content": text[: 4 * PROMPT]}
    positive, negative = ((side + text)[: 4 * COMPLETION] for side in ("yes ", "no "))
    return Sample(f"pair-{number}", "synthetic", (message,), positive, negative, group=str(number))


def _tables(
    random: np.random.Generator, planned: Sequence[Planned], dtype: str
) -> dict[str, pl.DataFrame]:
    indices = np.array([entry.index for entry in planned], np.uint32)
    sequences = (3 * indices[:, None] + np.arange(3, dtype=np.uint32)).ravel()
    lengths = np.tile([PROMPT, COMPLETION, COMPLETION], len(indices))
    positions = np.tile(
        np.concatenate([np.arange(PROMPT), *[np.arange(PROMPT, 80)] * 2]), len(indices)
    )
    tokens = np.repeat(sequences, lengths)
    token_ids = (VOCABULARY * random.random(len(tokens)) ** 3).astype(np.uint32)

    weights = np.arange(1, D_SAE + 1) ** -EXPONENT
    drawn = random.choice(D_SAE, (len(tokens), DRAWN), p=weights / weights.sum())
    drawn.sort(axis=1)
    kept = np.diff(drawn, axis=1, prepend=-1) > 0
    kept[positions == 0] = False
    row, column = kept.nonzero()
    values = random.lognormal(0.0, 0.7, len(row)).astype(np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    completions = sequences[sequences % 3 > 0]
    residual = random.standard_normal((2, len(completions), D_MODEL)).astype(np.float32)
    return {
        "samples": pl.DataFrame(
            {
                "sample": indices,
                "status": ["ok"] * len(indices),
                "n_prompt_tokens": np.full(len(indices), PROMPT, np.uint16),
                "n_positive_tokens": np.full(len(indices), COMPLETION, np.uint16),
                "n_negative_tokens": np.full(len(indices), COMPLETION, np.uint16),
                "n_truncated": np.zeros(len(indices), np.uint32),
            }
        ),
        "tokens": pl.DataFrame(
            {
                "sequence": tokens,
                "position": positions.astype(np.uint16),
                "token_id": token_ids,
                "text": [f" t{token}" for token in token_ids],
            }
        ),
        "residuals": pl.DataFrame(
            {"sequence": completions, "mean": residual[0], "last": residual[1]}
        ),
        "activations": pl.DataFrame(
            {
                "sequence": tokens[row],
                "position": positions[row].astype(np.uint16),
                "feature": drawn[row, column].astype(np.uint32),
                "value": bits if dtype == "bfloat16" else values,
            }
        ),
    }


def main(
    path: Annotated[Path, typer.Argument(help="Folder to write; it must not exist yet.")],
    pairs: Annotated[int, typer.Option(help="Each has 128 tokens.")] = 2000,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
) -> None:
    """Write a store of random activations."""
    if path.exists():
        raise typer.BadParameter(f"{path} exists already")
    store = synthetic_store(path, pairs, dtype=dtype)
    typer.echo(f"{path}: {store.status_counts()}")


if __name__ == "__main__":
    typer.run(main)
