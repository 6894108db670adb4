"""Activations at a hook point of streamed text, in shards that are kept on disk.

A shard depends on the text and the model only, so several SAEs, several epochs and a run that was
stopped share what was computed once. Left out of every shard are the first token of each window,
tokens whose norm is far above the rest (attention sinks: about 23,500 against 170 in the default
model), and positions whose whole prefix the shard has seen already: a chat template's opening has
the same activations each time.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trimtab.model.batch import pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.sinks import text_tokens

SHARD_TOKENS = 32_768  # what a stop loses at most: under a minute of a CPU
BATCH_TOKENS = 2_048  # of one forward pass on a CPU; more spills its caches


def shards(
    windows: Iterable[list[int]],
    model: LanguageModel,
    point: HookPoint,
    *,
    folder: Path | None = None,
    start: int = 0,
    limit: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[Tensor]:
    """Yield activations `(tokens, d_model)`, bfloat16: the text's shards from `start` to `limit`.

    With a `folder` each shard is read from there if it exists, and kept there if not; the text is
    not touched before a shard is missing.
    """
    groups = enumerate(_groups(windows))
    for index in count(start):
        file = folder / f"{index:05d}.safetensors" if folder else None
        end = folder / "end" if folder else None
        if index == limit or (end and end.exists() and index >= int(end.read_text())):
            return
        if file and file.exists():
            yield load_file(file)["activations"]
            continue
        group = next((group for i, group in groups if i == index), None)
        if group is None:
            if end:
                end.write_text(str(index))
            return
        shard = collect(group, model, point, batch_tokens=batch_tokens).bfloat16()
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(".tmp")
            save_file({"activations": shard}, unfinished)
            unfinished.rename(file)
        yield shard


def _groups(windows: Iterable[list[int]]) -> Iterator[list[list[int]]]:
    group: list[list[int]] = []
    tokens = 0
    for window in windows:
        group.append(window)
        tokens += len(window)
        if tokens >= SHARD_TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def collect(
    windows: list[list[int]],
    model: LanguageModel,
    point: HookPoint,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> Tensor:
    """Return the activations `(tokens, d_model)` of `windows`, float32, on the CPU."""
    kept = []
    fresh = _fresh(windows)
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    while order:
        longest = len(windows[order[-1]])
        chosen = [order.pop() for _ in range(min(len(order), max(1, batch_tokens // longest)))]
        batch = pad([windows[i] for i in chosen], "right", model.pad_id, model.device)
        seen = residuals(model, batch.input_ids, batch.attention_mask, [point])[point].float()
        use = text_tokens(seen, batch.attention_mask)
        for row, i in enumerate(chosen):
            use[row, : fresh[i]] = False
        kept.append(seen[use].cpu())
    return torch.cat(kept)


def _fresh(windows: list[list[int]]) -> list[int]:
    """Return for each window the first position whose prefix no earlier window has; at least 1."""
    seen: set[int] = set()
    firsts = []
    for window in windows:
        prefix = 0
        first = None
        for position, token in enumerate(window):
            prefix = hash((prefix, token))
            if prefix not in seen and first is None:
                first = position
            seen.add(prefix)
        firsts.append(max(1, len(window) if first is None else first))
    return firsts
