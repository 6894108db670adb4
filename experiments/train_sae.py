"""Train a sparse autoencoder for one hook point of a model, with sae_lens' trainer.

    python -m experiments.train_sae experiments/sae/recipes/default.toml corpus.jsonl.gz \\
        --out runs/sae --cache runs/activations

Text is JSONL of `{"text": …}` or `{"messages": […]}` (chats go through the model's template),
gzipped or not, or plain text, a document a line; it is streamed. With `--cache` activations are
kept on disk, so that later passes over the text, other recipes and a run that was stopped do not
compute them again (d_model × 2 bytes a token). Ctrl-C stops after a batch; the same command goes on
from there. The result is a folder with a JumpReLU SAE in float16 that `--sae FOLDER` loads.
"""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from experiments.sae.activations import shards
from experiments.sae.batches import Batches, Position
from experiments.sae.recipe import Recipe, read_recipe
from trimtab.errors import ModelError, TrimtabError
from trimtab.model.documents import windows
from trimtab.model.hook_points import parse_hook_point
from trimtab.model.language_model import LanguageModel, load_model

CHECKPOINTS = 20
STATE = "state.json"  # of a checkpoint, beside what sae_lens keeps
DECODER_NORM = 0.1  # of decoder rows at the start, as in sae_lens
WEIGHTS = "sae_weights.safetensors"


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file; see experiments/sae/recipe.py.")],
    files: Annotated[list[Path], typer.Argument(help="JSONL (gzipped or not) or text files.")],
    out: Annotated[Path, typer.Option(help="Folder of the trained SAE; must not exist.")],
    model: Annotated[str | None, typer.Option(help="As in `trimtab build`.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps activations.")] = None,
) -> None:
    """Train a BatchTopK or Matryoshka SAE and save it as JumpReLU, float16."""
    if out.exists():
        raise typer.BadParameter(f"{out} exists already", param_hint="--out")
    try:
        train_sae(read_recipe(recipe), files, load_model(model), out, cache)
    except TrimtabError as error:
        raise typer.BadParameter(str(error)) from error
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from there", err=True)
        raise typer.Exit(130) from None


def train_sae(
    recipe: Recipe, files: list[Path], model: LanguageModel, out: Path, cache: Path | None
) -> None:
    """Train by `recipe`, going on from `OUT.unfinished` if an earlier run left that behind.

    Raises:
        KeyboardInterrupt: stopped by the user; everything up to the last batch is kept.
    """
    from sae_lens import SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    from experiments.sae.sparse import training_sae

    torch.manual_seed(recipe.seed)
    unfinished = out.with_name(out.name + ".unfinished")
    steps = recipe.tokens // recipe.batch
    sae = training_sae(_config(recipe, model))
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=steps * recipe.batch,
            train_batch_size_samples=recipe.batch,
            lr=recipe.lr,
            lr_end=recipe.lr / 10,
            lr_warm_up_steps=recipe.warm_up,
            lr_decay_steps=int(steps * recipe.decay),
            dead_feature_window=recipe.dead_after,
            device=str(model.device),
            n_checkpoints=CHECKPOINTS,
            checkpoint_path=str(unfinished),
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae,
        iter(()),
    )
    position, seconds = _resume(trainer, unfinished, recipe)
    point = parse_hook_point(recipe.hook_point)

    def stream(start: int = 0) -> Iterator[Tensor]:
        text = windows(
            files,
            model,
            length=recipe.context,
            part="train",
            held_out=recipe.held_out,
            share=recipe.share,
        )
        ids = (window for _, window in text)
        return shards(ids, model, point, folder=cache, start=start, limit=recipe.shards)

    if cache:
        _claim(cache, recipe, files, model)
    if not position:
        _begin(trainer, next(stream()).float())
    batches = Batches(stream, recipe.batch, recipe.seed, position or Position())

    clock = monotonic() - seconds

    def keep(checkpoint_path: Path | None) -> None:
        assert checkpoint_path is not None
        state = {"position": asdict(batches.position), "seconds": monotonic() - clock}
        (checkpoint_path / STATE).write_text(json.dumps(state))
        for older in unfinished.iterdir():
            if older.is_dir() and older != checkpoint_path:
                shutil.rmtree(older)

    trainer.save_checkpoint_fn = keep
    for group in trainer.optimizer.param_groups:
        group["fused"] = True  # a tenth of the time of the default, to the same numbers
    unfinished.mkdir(parents=True, exist_ok=True)
    (unfinished / "recipe.json").write_text(json.dumps(asdict(recipe)))
    with _stopping() as stopped:
        trainer.data_provider = _until(stopped, batches)
        try:
            trainer.fit()
        except KeyboardInterrupt:
            trainer.checkpoint_thresholds = []
            trainer.save_checkpoint(f"stopped_{trainer.n_training_samples}")
            raise
    _save(sae, unfinished / "whole", {**asdict(recipe), **_machine(model, monotonic() - clock)})
    (unfinished / "whole").rename(out)
    shutil.rmtree(unfinished)
    typer.echo(f"{out}: {recipe.width} features at {point} of {model.name}")


def _config(recipe: Recipe, model: LanguageModel) -> Any:
    from sae_lens import BatchTopKTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    shared: dict[str, Any] = {
        "d_in": model.d_model,
        "d_sae": recipe.width,
        "k": recipe.k,
        "device": str(model.device),
        "dtype": "float32",
        "decoder_init_norm": DECODER_NORM,
        "normalize_activations": "expected_average_only_in",
        "topk_threshold_lr": 0.03,  # a run of a few hundred steps outlasts its memory
        "metadata": SAEMetadata(
            model_name=model.name, hook_name=recipe.hook_point, context_size=recipe.context
        ),
    }
    if recipe.architecture == "batchtopk":
        return BatchTopKTrainingSAEConfig(**shared)
    return MatryoshkaBatchTopKTrainingSAEConfig(
        **shared, matryoshka_widths=[*recipe.inner_widths, recipe.width]
    )


def _begin(trainer: Any, x: Tensor) -> None:
    """Start from activations `x` `(n, d_model)`: their mean, and some of them as directions.

    The mean is most of their norm, and b_dec moves by a learning rate a step: an SAE that starts
    from zero spends features on the mean for as long as a short run lasts. A feature that starts
    along a token's own direction fires from the first step on.
    """
    sae = trainer.sae
    scale = x.shape[1] ** 0.5 / float(x.norm(dim=1).mean())
    trainer.activation_scaler.scaling_factor = scale
    sae.b_dec.data.copy_(x.mean(dim=0) * scale)
    drawn = torch.randperm(len(x))[: sae.cfg.d_sae].to(x.device)
    rows = DECODER_NORM * normalize(x[drawn] - x.mean(dim=0))
    sae.W_dec.data[: len(rows)].copy_(rows)
    sae.W_enc.data[:, : len(rows)].copy_(rows.T)


def _claim(cache: Path, recipe: Recipe, files: list[Path], model: LanguageModel) -> None:
    """Note what a cache's activations are of, or refuse one whose activations are of other things.

    Raises:
        ModelError: they are of another model, hook point or text.
    """
    wanted = {
        **model.fingerprint(),
        "hook_point": recipe.hook_point,
        "files": [[file.name, file.stat().st_size] for file in files],
        "context": recipe.context,
        "held_out": recipe.held_out,
        "share": recipe.share,
    }
    note = cache / "source.json"
    if not note.exists():
        cache.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    found = json.loads(note.read_text(encoding="utf-8"))
    if differing := [key for key in wanted if found.get(key) != wanted[key]]:
        raise ModelError(
            f"{cache} holds activations of something else ({', '.join(differing)}); "
            "name another folder with --cache"
        )


def _resume(trainer: Any, unfinished: Path, recipe: Recipe) -> tuple[Position | None, float]:
    """Load the newest checkpoint into `trainer`, if there is one.

    Returns:
        Where its stream goes on, and the seconds that it took so far.

    Raises:
        ModelError: the unfinished run follows another recipe.
    """
    found = sorted(unfinished.glob(f"*/{STATE}"), key=lambda file: file.stat().st_mtime)
    if not found:
        return None, 0.0
    if json.loads((unfinished / "recipe.json").read_text()) != asdict(recipe):
        raise ModelError(f"{unfinished} was begun with another recipe; remove it to begin anew")
    checkpoint = found[-1].parent
    trainer.load_trainer_state(checkpoint)
    trainer.sae.load_weights_from_checkpoint(checkpoint)
    done = trainer.n_training_samples
    trainer.checkpoint_thresholds = [t for t in trainer.checkpoint_thresholds if t > done]
    trainer.n_training_steps = done // recipe.batch  # a checkpoint comes before its step is counted
    state = json.loads(found[-1].read_text())
    return Position(**state["position"]), state["seconds"]


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list, so that a step is never cut in two."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: received.append(n))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _until(stopped: list[int], batches: Batches) -> Iterator[Tensor]:
    for batch in batches:
        yield batch
        if stopped:
            raise KeyboardInterrupt


def _machine(model: LanguageModel, seconds: float) -> dict[str, Any]:
    """What a run took: seconds include reading activations, and computing those not cached yet."""
    cuda = model.device.type == "cuda"
    device = torch.cuda.get_device_name(model.device) if cuda else "CPU"
    return {
        "library": f"sae_lens {version('sae-lens')}",
        "device": device,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds),
    }


def _save(sae: Any, folder: Path, training: dict[str, Any]) -> None:
    """Write the SAE as JumpReLU with 16-bit weights, beside a card of how it was trained."""
    sae.save_inference_model(folder)
    weights = {name: w.half().contiguous() for name, w in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS)
    card = {"model": sae.cfg.metadata.model_name, "training": training}
    (folder / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(train)
