"""Bytes of activations on the disk: trimtab's store, SAELens' dense cache, delphi's sparse cache.

    python -m experiments.benchmarks.store_bytes --samples 64 --out bytes.json

All three read the same texts by the same model and SAE, each by its own code. The two caches take
windows of one length, so they are given the texts' tokens in one row, cut up. delphi is installed
without its dependencies into a folder of this run's own, and only its cache module is imported.
"""

import importlib
import json
import subprocess
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from trimtab.model.families import find_module
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.render import render
from trimtab.model.sae import SAE, load_sae
from trimtab.pairs import load_packaged
from trimtab.pairs.sample import Sample
from trimtab.store import build
from trimtab.store.reading.inventory import inventory

DELPHI = "eai-delphi==0.1.3"


def ours(
    model: LanguageModel, sae: SAE, samples: Sequence[Sample], folder: Path, values: Any
) -> dict[str, Any]:
    """Sizes of our store's activations and tokens, and of all it holds."""
    store = build(folder, samples, model, sae, values=values, progress=False)
    held = inventory(store)
    size = held["bytes_by_part"]["activations"] + held["bytes_by_part"]["tokens"]
    return {
        "tokens": held["n_tokens"],
        "nnz": held["nnz"],
        "bytes": size,
        "all_bytes": held["bytes"],
    }


def sae_lens_cache(
    model: LanguageModel, sae: SAE, windows: torch.Tensor, folder: Path
) -> dict[str, Any]:
    """Size of what `CacheActivationsRunner` writes."""
    from datasets import Dataset
    from sae_lens import CacheActivationsRunner, CacheActivationsRunnerConfig
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_config(model.module.config)  # it came from a GGUF file
    plain.load_state_dict(model.module.state_dict())
    if hasattr(plain.config, "quantization_config"):
        del plain.config.quantization_config
    plain.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    config = CacheActivationsRunnerConfig(
        dataset_path="packaged",
        model_name=str(folder / "model"),
        model_class_name="AutoModelForCausalLM",
        model_batch_size=8,
        hook_name=module_name(model, sae),
        d_in=model.d_model,
        training_tokens=windows.numel(),
        buffer_size_gb=8 * windows.shape[1] * model.d_model * 4.01 / 1e9,  # a batch at a time
        context_size=windows.shape[1],
        new_cached_activations_path=str(folder / "cache"),
        shuffle=False,
        device=str(model.device),
        prepend_bos=False,
        streaming=False,
    )
    rows = Dataset.from_dict({"tokens": windows.tolist()}).with_format("torch")
    cached = CacheActivationsRunner(config, override_dataset=rows).run()
    return {"tokens": len(cached) * windows.shape[1], "bytes": size_of(folder / "cache")}


def delphi_cache(
    model: LanguageModel, sae: SAE, windows: torch.Tensor, folder: Path
) -> dict[str, Any]:
    """Size of what `LatentCache` writes, in its default five splits."""
    target = folder / "delphi"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, DELPHI],
        check=True,
    )
    sys.path.append(str(target))
    # The package around the module imports an explainer's whole toolbox.
    package = types.ModuleType("delphi.latents")
    package.__path__ = [str(target / "delphi" / "latents")]
    sys.modules["delphi.latents"] = package
    latent_cache = importlib.import_module("delphi.latents.cache").LatentCache
    cache = latent_cache(model.module, {module_name(model, sae): sae.encode}, batch_size=8)
    cache.run(windows.numel(), windows)
    cache.save_splits(5, folder / "latents")
    (locations,) = cache.cache.latent_locations.values()
    return {
        "tokens": len(windows) // 8 * 8 * windows.shape[1],
        "nnz": len(locations),
        "bytes": size_of(folder / "latents"),
    }


def module_name(model: LanguageModel, sae: SAE) -> str:
    """Name of the layer whose output the SAE reads."""
    layer = find_module(model.module, sae.hook_point)
    names: dict[int, str] = {id(module): name for name, module in model.module.named_modules()}
    return names[id(layer)]


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(
    behavior: Annotated[str, typer.Option(help="A packaged contrast set.")] = "formality",
    samples: Annotated[int, typer.Option(help="Pairs.")] = 64,
    length: Annotated[int, typer.Option(help="Tokens of the others' windows.")] = 128,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Print bytes a token and bytes an activation that is not zero."""
    model = load_model(dtype="float32", device="cpu")
    sae = load_sae("default", model)
    assert sae is not None
    pairs = load_packaged(behavior)[:samples]
    ids = [
        i
        for pair in pairs
        for _, text in pair.sides
        for i in render(model, pair.messages, text).ids
    ]
    n = len(ids) // length // 8 * 8
    windows = torch.tensor(ids[: n * length]).view(n, length)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {
            "trimtab float32": ours(model, sae, pairs, folder / "float32", "float32"),
            "trimtab bfloat16": ours(model, sae, pairs, folder / "bfloat16", "bfloat16"),
            "delphi LatentCache": delphi_cache(model, sae, windows, folder),
            "SAELens CacheActivationsRunner": sae_lens_cache(model, sae, windows, folder),
        }
    table = Table("cache", "tokens", "activations", "bytes a token", "bytes an activation")
    for name, row in rows.items():
        nnz = row.get("nnz")
        table.add_row(
            name,
            f"{row['tokens']:,}",
            f"{nnz:,}" if nnz else "dense",
            f"{row['bytes'] / row['tokens']:,.1f}",
            f"{row['bytes'] / nnz:.2f}" if nnz else "",
        )
    Console().print(table)
    if out is not None:
        out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    typer.run(main)
