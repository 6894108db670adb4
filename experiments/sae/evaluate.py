"""How well sparse autoencoders reconstruct, on text that none of them was trained on.

    python -m experiments.sae.evaluate runs/sae-a runs/sae-b --out runs/evaluation.json \\
        --text wiki.valid.tokens --held-out corpus.jsonl.gz --source hh-rlhf --source gpteacher

SAEs are read as they lie on disk, 16-bit weights included, and compared on the same tokens. First
tokens and attention sinks are left out of every figure and are never replaced.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from trimtab.model.batch import Batch, pad
from trimtab.model.documents import windows
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit, residuals
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.sae import SAE, load_sae
from trimtab.model.sinks import text_tokens

ROWS = 8  # windows of one forward pass
DENSE = 0.1  # a feature that fires on more of the tokens than this is dense


def evaluate(
    saes: Annotated[list[str], typer.Argument(help="SAE folders, or as in `trimtab build`.")],
    out: Annotated[Path, typer.Option(help="JSON file that results are added to.")],
    text: Annotated[Path | None, typer.Option(help="Plain text that nobody trained on.")] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Corpus whose held-out part is used.")
    ] = None,
    source: Annotated[list[str] | None, typer.Option(help="Of the corpus, only these.")] = None,
    contexts: Annotated[int, typer.Option(help="Windows of each text.")] = 64,
    skip: Annotated[int, typer.Option(help="Windows before them, by which SAEs were chosen.")] = 0,
    length: Annotated[int, typer.Option(help="Tokens a window.")] = 256,
    model: Annotated[str | None, typer.Option(help="As in `trimtab build`.")] = None,
) -> None:
    """Measure every SAE on every text; what `--out` holds of these weights is not done again."""
    settings = {"contexts": contexts, "skip": skip, "length": length, "sources": source}
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    loaded = load_model(model)
    texts: dict[str, list[list[int]]] = {}
    if text:
        every = plain_windows(loaded, text.read_text(encoding="utf-8"), skip + contexts, length)
        texts[text.name] = every[skip:]
    if held_out:
        stream = windows([held_out], loaded, length=length, part="held_out")
        wanted = (ids for name, ids in stream if not source or name in source)
        texts[held_out.name] = list(islice(wanted, skip, skip + contexts))
    for name, ids in texts.items():
        readings: dict[HookPoint, Reading] = {}
        for spec in saes:
            sae = load_sae(spec, loaded)
            if sae is None:
                raise typer.BadParameter("'none' is no SAE to evaluate")
            sha256 = sae.fingerprint()["sae_sha256"]
            if results.get(spec, {}).get("sae_sha256") != sha256:
                results[spec] = {"sae_sha256": sha256, "decoder_cosines": decoder_cosines(sae)}
            if results[spec].get(name, {}).get("windows") == settings:
                continue
            point = sae.hook_point
            if point not in readings:
                readings[point] = read(loaded, point, ids)
            results[spec][name] = {"windows": settings, **measure(sae, readings[point])}
            out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    Console().print(_table(results))


def plain_windows(model: LanguageModel, text: str, count: int, length: int) -> list[list[int]]:
    """Cut the beginning of `text` into `count` windows of `length` tokens."""
    ids: list[int] = model.tokenizer(text, add_special_tokens=False).input_ids
    return [ids[i * length : (i + 1) * length] for i in range(min(count, len(ids) // length))]


@dataclass(frozen=True, eq=False)
class Reading:
    """A model's reading of some text: what every SAE at one hook point is measured against.

    Attributes:
        batches: the padded windows.
        activations: theirs, `(rows, longest, d_model)` float32 each.
        use: which of their tokens count, `(rows, longest)`: no pads, first tokens or sinks.
        mean: of the tokens that count, `(d_model,)`.
        cross_entropy: nats a token of the model as it is, and with zero or the mean in the
            activations' place.
    """

    model: LanguageModel
    point: HookPoint
    batches: list[Batch]
    activations: list[Tensor]
    use: list[Tensor]
    mean: Tensor
    cross_entropy: dict[str, float]


@torch.no_grad()
def read(model: LanguageModel, point: HookPoint, ids: Sequence[Sequence[int]]) -> Reading:
    """Run windows of token ids through `model`."""
    ordered = sorted(ids, key=len)
    starts = range(0, len(ordered), ROWS)
    batches = [pad(ordered[i : i + ROWS], "right", model.pad_id, model.device) for i in starts]
    activations, uses = [], []
    for batch in track(batches, "reading"):
        x = residuals(model, batch.input_ids, batch.attention_mask, [point])[point].float()
        use = text_tokens(x, batch.attention_mask)
        use[:, 0] = False
        activations.append(x)
        uses.append(use)
    mean = torch.cat([x[use] for x, use in zip(activations, uses, strict=True)]).mean(dim=0)
    bare = Reading(model, point, batches, activations, uses, mean, {})
    entropy = {
        "base": _cross_entropy(bare, activations),
        "zero": _cross_entropy(bare, [torch.zeros_like(x) for x in activations]),
        "mean": _cross_entropy(bare, [mean.expand_as(x) for x in activations]),
    }
    return replace(bare, cross_entropy=entropy)


@torch.no_grad()
def measure(sae: SAE, reading: Reading) -> dict[str, Any]:
    """Measure `sae` on a reading.

    Returns:
        explained_variance: 1 − squared error / squared distance from the tokens' mean.
        l0: mean number of active features a token.
        norm_ratio: mean norm of reconstructions over that of activations.
        reconstruction_bias: E‖x̂‖² / E⟨x, x̂⟩, centred; below 1 is shrinkage (γ of Rajamanoharan et
            al., 2024, arXiv:2404.16014).
        silent, dense: features that never fire, and on more than a tenth of the tokens.
        cross_entropy: nats a token of the model as it is, and with zero, the mean or the
            reconstruction in the activations' place.
        recovered_…: share of what zero or the mean destroys that the reconstruction keeps.
    """
    n = 0
    error = variance = x_norm = y_norm = square = product = 0.0
    fired = torch.zeros(sae.d_sae)
    rebuilt = []
    for x, use in zip(reading.activations, reading.use, strict=True):
        features = sae.encode(x)
        rebuilt.append(sae.decode(features))
        fired += (features[use] > 0).sum(dim=0).cpu()
        original, y = x[use], rebuilt[-1][use]
        centred, also = original - reading.mean, y - reading.mean
        n += len(y)
        error += float((original - y).double().square().sum())
        variance += float(centred.double().square().sum())
        x_norm += float(original.norm(dim=1).sum())
        y_norm += float(y.norm(dim=1).sum())
        square += float(also.double().square().sum())
        product += float((centred * also).double().sum())
    entropy = {**reading.cross_entropy, "reconstruction": _cross_entropy(reading, rebuilt)}
    lost = entropy["reconstruction"] - entropy["base"]
    return {
        "tokens": n,
        "explained_variance": 1 - error / variance,
        "l0": float(fired.sum()) / n,
        "norm_ratio": y_norm / x_norm,
        "reconstruction_bias": square / product if product else None,
        "silent": int((fired == 0).sum()),
        "dense": int((fired > DENSE * n).sum()),
        "cross_entropy": entropy,
        "recovered_against_zero": 1 - lost / (entropy["zero"] - entropy["base"]),
        "recovered_against_mean": 1 - lost / (entropy["mean"] - entropy["base"]),
    }


def _cross_entropy(reading: Reading, stands_in: Sequence[Tensor]) -> float:
    """Return nats a token with `stands_in` in the place of the activations that count."""
    total, predicted = 0.0, 0
    for batch, x, use, y in zip(
        reading.batches, reading.activations, reading.use, stands_in, strict=True
    ):
        known = batch.attention_mask[:, 1:].bool()
        changed = torch.where(use[..., None], y, x).to(reading.model.dtype)
        with edit(reading.model, reading.point, partial(_instead, changed)):
            logits = reading.model.module(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask
            ).logits
        targets = batch.input_ids[:, 1:][known]
        total += float(cross_entropy(logits[:, :-1][known].float(), targets, reduction="sum"))
        predicted += len(targets)
    return total / predicted


def decoder_cosines(sae: SAE) -> dict[str, float]:
    """Return quantiles of each decoder row's largest cosine with another row.

    Many near 1 mean features that are split or doubled.
    """
    rows = normalize(sae.W_dec.detach().float())
    largest = []
    for start in range(0, len(rows), 1024):
        cosines = rows[start : start + 1024] @ rows.T
        cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = -1
        largest.append(cosines.max(dim=1).values)
    found = torch.cat(largest)
    quantiles = {f"q{q:g}": float(found.quantile(q / 100)) for q in (5, 50, 95, 99)}
    return {**quantiles, "share_above_0.9": float((found > 0.9).float().mean())}


def _instead(y: Tensor, _: Tensor) -> Tensor:
    return y


def _table(results: dict[str, Any]) -> Table:
    table = Table("SAE", "text", "explained", "L0", "CE ÷ zero", "CE ÷ mean", "silent", "dense")
    for spec, found in results.items():
        for name, row in found.items():
            if name not in ("sae_sha256", "decoder_cosines"):
                values = (
                    f"{row['explained_variance']:.4f}",
                    f"{row['l0']:.1f}",
                    f"{row['recovered_against_zero']:.4f}",
                    f"{row['recovered_against_mean']:.4f}",
                    str(row["silent"]),
                    str(row["dense"]),
                )
                table.add_row(spec, name, *values)
    return table


if __name__ == "__main__":
    typer.run(evaluate)
