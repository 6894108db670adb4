"""Train a sparse autoencoder for one hook point of a model, with sae_lens' trainer.

    python -m experiments.train_sae corpus.jsonl.gz --out runs/sae --tokens 2500000

Reads JSONL of `{"text": ...}` or `{"messages": [...]}` (chats go through the model's template),
gzipped or not, or plain text files, streaming, and starts over when the text ends. Positions whose
norm is far above the rest (attention sinks: about 23,500 against 170 in the default model) and the
first token of every context are left out. The result is a JumpReLU SAE that `--sae FOLDER` loads.
"""

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from trimtab.model.hook_points import HookPoint, parse_hook_point
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel, load_model

SHUFFLED_TOKENS = 200_000  # mixing buffer: neighbouring tokens of a text are much alike
SINK_FACTOR = 3.5  # a token this many times the median norm is a sink


def texts(files: list[Path], model: LanguageModel, seed: int) -> Iterator[list[int]]:
    """Yield token ids of each document, for ever, files in a new order each time round."""
    order = random.Random(seed)
    while True:
        for file in order.sample(files, len(files)):
            with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
                for line in lines:
                    text = _text(line, file, model)
                    if text.strip():
                        yield model.tokenizer(text, add_special_tokens=False).input_ids


def _text(line: str, file: Path, model: LanguageModel) -> str:
    if ".json" not in file.name:
        return line
    row: dict[str, Any] = json.loads(line)
    if "messages" in row:
        return str(model.tokenizer.apply_chat_template(row["messages"], tokenize=False))
    return str(row["text"])


def activations(
    model: LanguageModel,
    point: HookPoint,
    files: list[Path],
    *,
    context: int,
    batch: int,
    seed: int,
) -> Iterator[Tensor]:
    """Yield shuffled batches `(batch, d_model)` of activations, sinks left out, for ever."""
    generator = torch.Generator().manual_seed(seed)
    documents = texts(files, model, seed)
    pool = torch.empty(0, model.d_model)
    while True:
        fresh = [pool]
        count = len(pool)
        while count < SHUFFLED_TOKENS:
            rows = [_context(documents, context) for _ in range(16)]
            ids = torch.tensor(rows, device=model.device)
            seen = residuals(model, ids, torch.ones_like(ids), [point])[point][:, 1:].float()
            norms = seen.norm(dim=-1)
            fresh.append(seen[norms < SINK_FACTOR * norms.median()].cpu())
            count += len(fresh[-1])
        pool = torch.cat(fresh)
        pool = pool[torch.randperm(len(pool), generator=generator)]
        for _ in range(len(pool) // 2 // batch):
            yield pool[:batch]
            pool = pool[batch:]


def _context(documents: Iterator[list[int]], length: int) -> list[int]:
    """Return one context of exactly `length` tokens, documents packed one after the other."""
    ids: list[int] = []
    while len(ids) < length:
        ids += next(documents)
    return ids[:length]


def train(
    files: Annotated[list[Path], typer.Argument(help="JSONL (gzipped or not) or text files.")],
    out: Annotated[Path, typer.Option(help="Folder of the trained SAE; must not exist.")],
    model: Annotated[str | None, typer.Option(help="As in `trimtab build`.")] = None,
    hook_point: Annotated[str, typer.Option()] = "blocks.15.hook_resid_post",
    tokens: Annotated[int, typer.Option(help="Tokens to train on.")] = 2_500_000,
    width: Annotated[int, typer.Option(help="Number of features.")] = 4608,
    k: Annotated[int, typer.Option(help="Mean number of active features a token.")] = 32,
    batch: Annotated[int, typer.Option(help="Tokens a step.")] = 2048,
    context: Annotated[int, typer.Option(help="Tokens a context.")] = 256,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 5e-4,
    seed: int = 0,
) -> None:
    """Train a BatchTopK SAE and save it as JumpReLU, float32."""
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    if out.exists():
        raise typer.BadParameter(f"{out} exists already", param_hint="--out")
    torch.manual_seed(seed)
    loaded = load_model(model)
    point = parse_hook_point(hook_point)
    device = str(loaded.device)
    sae = BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(
            d_in=loaded.d_model,
            d_sae=width,
            k=k,
            device=device,
            dtype="float32",
            normalize_activations="expected_average_only_in",
        )
    )
    sae.cfg.metadata.model_name = loaded.name
    sae.cfg.metadata.hook_name = str(point)
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=tokens,
            train_batch_size_samples=batch,
            lr=lr,
            lr_end=lr / 10,
            lr_warm_up_steps=100,
            lr_decay_steps=tokens // batch // 5,
            device=device,
            n_batches_for_norm_estimate=20,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae,
        activations(loaded, point, files, context=context, batch=batch, seed=seed),
    )
    trainer.fit().save_inference_model(out)
    typer.echo(f"{out}: {width} features at {point} of {loaded.name}, {tokens:,} tokens")


if __name__ == "__main__":
    typer.run(train)
