"""Ways of scoring candidates: trimtab's, plain forward passes with a hook, and steering-vectors'.

Each returns margin effects `(candidates, pairs)`. Rows of one side are all of one length, so that
nothing is padded; the plain way batches rows of several candidates, and unembeds only the states
that are needed.
"""

import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.scoring_task import Task
from trimtab.model.families import find_layers
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.steering.apply import Edit
from trimtab.steering.margin import Margin

STEERING_VECTORS = "steering-vectors==0.12.2"


def trimtab_effects(margin: Margin, vectors: Tensor) -> Tensor:
    """Effects by the fast path, all candidates at once."""

    def adding(vector: Tensor) -> Edit:
        return lambda x: x + vector

    return torch.from_numpy(margin.effects_of_many([adding(vector) for vector in vectors]))


@dataclass(frozen=True)
class Rows:
    """A task's token rows: prompts for letters, else every side with its prompt.

    Attributes:
        input_ids: `(rows, length)`.
        targets: tokens whose logits count, `(rows, scored states, tokens)`.
    """

    task: Task
    input_ids: Tensor
    targets: Tensor

    def margins(self, logprobs: Tensor) -> Tensor:
        """Margins `(candidates, pairs)` of the targets' log-probabilities."""
        found = logprobs.view(-1, len(self.task.samples), 2, self.task.completion).mean(-1)
        return found[..., 0] - found[..., 1]


def tokenise(model: LanguageModel, task: Task) -> Rows:
    """Return a task's rows, without the last token, after which nothing is read."""
    rows = [render(model, s.messages, text) for s in task.samples for _, text in s.sides]
    ids = torch.tensor([row.ids for row in rows])
    targets = ids[:, task.prompt :]
    if task.letters:
        return Rows(task, ids[::2, :-1], targets.view(-1, 1, 2))
    return Rows(task, ids[:, :-1], targets[..., None])


@torch.no_grad()
def plain_effects(
    model: LanguageModel, point: HookPoint, rows: Rows, vectors: Tensor, batch: int
) -> Tensor:
    """Margins by plain forward passes of `batch` rows, a hook adding each row's vector."""
    module: Any = model.module
    first = rows.task.prompt - 1
    ids = rows.input_ids.repeat(len(vectors), 1)
    targets = rows.targets.repeat(len(vectors), 1, 1)
    added = vectors.repeat_interleave(len(rows.input_ids), 0)[:, None]
    found = []
    for start in range(0, len(ids), batch):
        some = slice(start, start + batch)

        def hook(_module: Any, _inputs: Any, output: Tensor, some: slice = some) -> None:
            output[:, first:] += added[some]

        handle = find_layers(module)[point.layer].register_forward_hook(hook)
        try:
            states = module.model(input_ids=ids[some], use_cache=False).last_hidden_state
        finally:
            handle.remove()
        logprobs = module.lm_head(states[:, first:]).log_softmax(-1)
        found.append(logprobs.gather(-1, targets[some]))
    return rows.margins(torch.cat(found))


@torch.no_grad()
def steering_vectors_effects(
    package: Any, model: LanguageModel, point: HookPoint, rows: Rows, vectors: Tensor, batch: int
) -> Tensor:
    """Margins as one gets them with the package: a vector at a time, the model's own logits."""
    first = rows.task.prompt - 1
    found = []
    for vector in vectors:
        steering = package.SteeringVector({point.layer: vector})
        for start in range(0, len(rows.input_ids), batch):
            some = slice(start, start + batch)
            with steering.apply(model.module, min_token_index=first):
                made = model.module(input_ids=rows.input_ids[some]).logits[:, first:]
            found.append(made.log_softmax(-1).gather(-1, rows.targets[some]))
    return rows.margins(torch.cat(found))


def install_steering_vectors(folder: Path) -> Any:
    """Install the package into a folder of its own, and import it.

    Its dependencies pin older releases of what is installed already.
    """
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    subprocess.run([*command, str(folder), STEERING_VECTORS], check=True)
    sys.path.append(str(folder))
    return importlib.import_module("steering_vectors")
