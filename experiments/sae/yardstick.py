"""One behaviour as a yardstick for vectors: what they are made of, and what they are measured with.

Pairs are split by group. `select` gives activations, differences and the gradient; `report` gives
margins. All of it is the same for every SAE, and made when it is first asked for.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from trimtab.model.batch import pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.pairs import Message, Sample, load_packaged, packaged_questions, split
from trimtab.selector.parts import Parts
from trimtab.steering.calibration import calibrate
from trimtab.steering.damage import Damage
from trimtab.steering.generation import Prompts, generate, read_prompts
from trimtab.steering.judges.classifier import BehaviorClassifier, train_classifier
from trimtab.steering.margin import Margin
from trimtab.steering.vector import SteeringVector

BUDGET = 0.1  # nats per token
MAX_NEW_TOKENS = 32
ROWS_PER_BATCH = 32
TOKENS_PER_ENCODE = 1024  # 16,384 features of them are 64 MB

Found = dict[str, Any]
"""What was measured of one vector; survives JSON."""


@dataclass(frozen=True, eq=False)
class Yardstick:
    """A behaviour's pairs and questions, and what is made of them.

    Attributes:
        behavior: its name.
        damage: meter of all calibrations.
        select: pairs that make and choose vectors.
        report: pairs of other groups, on which margins are measured.
        questions: conversations whose replies are judged.
    """

    behavior: str
    model: LanguageModel
    hook_point: HookPoint
    damage: Damage
    select: tuple[Sample, ...]
    report: tuple[Sample, ...]
    questions: tuple[tuple[Message, ...], ...]

    @cached_property
    def sha256(self) -> str:
        """Of all texts, and of who is in which part."""
        texts = [[s.content_hash() for s in part] for part in (self.select, self.report)]
        return hashlib.sha256(json.dumps([texts, self.questions]).encode()).hexdigest()

    @cached_property
    def groups(self) -> list[str]:
        """Groups of the pairs to report, for the bootstrap."""
        return [sample.group for sample in self.report]

    @cached_property
    def tokens(self) -> tuple[Tensor, Tensor]:
        """What `completion_tokens` gives of `select`."""
        return completion_tokens(self.model, self.hook_point, self.select)

    @cached_property
    def residual(self) -> Tensor:
        """Pooled differences of the residual itself, `(n_select, d_model)`."""
        return differences(*self.tokens, lambda x: x)

    @cached_property
    def dense(self) -> Tensor:
        """The mean difference of the residual, `(d_model,)`."""
        return self.residual.mean(0)

    @cached_property
    def gradient(self) -> Tensor:
        """Of `select`'s margin by the added vector, `(d_model,)`, at the unsteered model."""
        margin = Margin(self.model, self.select, self.hook_point)
        return margin.gradient(torch.zeros(self.model.d_model))

    @cached_property
    def margin(self) -> Margin:
        """Of the pairs to report."""
        return Margin(self.model, self.report, self.hook_point)

    @cached_property
    def prompts(self) -> Prompts:
        """The open questions, read."""
        return read_prompts(self.model, self.questions)

    @cached_property
    def classifier(self) -> BehaviorClassifier:
        """Judges the replies. It has seen the pairs of both parts, and chooses no vector."""
        return train_classifier([*self.select, *self.report], self.model)

    def parts(self, sae: SAE) -> Parts:
        """Return what vectors can be made of: `select` through an SAE."""
        ids = tuple(sample.id for sample in self.select)
        features = differences(*self.tokens, sae.encode)
        return Parts(ids, self.residual, features, sae.W_dec.detach().float().cpu())

    def measure_unsteered(self) -> Found:
        """Return what the untouched model does."""
        replies = generate(self.prompts, max_new_tokens=MAX_NEW_TOKENS)
        return {"effects": [0.0] * len(self.report), **self._judged(replies)}

    def measure(self, direction: Tensor, *, start: float) -> Found:
        """Return what a direction `(d_model,)`, whatever its length, does at the damage budget.

        Args:
            direction: from `select` alone.
            start: first guess of the multiplier of the direction at unit length.

        Raises:
            VectorError: no multiplier reaches the budget.
        """
        unit = direction / direction.norm().clamp_min(1e-12)
        vector = SteeringVector(unit, self.hook_point)
        found = calibrate(vector, self.damage, BUDGET, start=start)
        change = vector.edit(found.multiplier)
        assert change is not None
        replies = generate(self.prompts, vector, found.multiplier, max_new_tokens=MAX_NEW_TOKENS)
        return {
            "multiplier": found.multiplier,
            "kl": found.damage.mean,
            "cosine": float(torch.cosine_similarity(direction, self.dense, dim=0)),
            "explained": 1 - float((self.dense - direction).norm() / self.dense.norm()) ** 2,
            "effects": self.margin.effects(change).tolist(),
            **self._judged(replies),
        }

    def _judged(self, replies: list[str]) -> Found:
        return {
            "replies": replies,
            "shown": self.classifier.shows(replies).astype(float).tolist(),
            "classifier": self.classifier.kind,
            "classifier_accuracy": self.classifier.accuracy,
        }


def packaged(
    behavior: str, seed: int, *, model: LanguageModel, hook_point: HookPoint, damage: Damage
) -> Yardstick:
    """Return a packaged behaviour; a minus before its name swaps the sides of every pair.

    Where a model shows a behaviour already, there is room in the other direction only.
    """
    name = behavior.removeprefix("-")
    samples = load_packaged(name)
    if name != behavior:
        samples = [replace(s, positive=s.negative, negative=s.positive) for s in samples]
    held_out = set(split(samples, seed).report)
    return Yardstick(
        behavior,
        model,
        hook_point,
        damage,
        select=tuple(sample for sample in samples if sample.id not in held_out),
        report=tuple(sample for sample in samples if sample.id in held_out),
        questions=tuple(({"role": "user", "content": q},) for q in packaged_questions(name)),
    )


@torch.no_grad()
def completion_tokens(
    model: LanguageModel, hook_point: HookPoint, pairs: Sequence[Sample]
) -> tuple[Tensor, Tensor]:
    """Return the activations of all completions' tokens, and whose each token is.

    They are `(tokens, d_model)` and `(tokens,)`, float32 and int64, on the CPU. Completion 2 i is
    pair i's positive, 2 i + 1 its negative.
    """
    rows = [render(model, pair.messages, text) for pair in pairs for _, text in pair.sides]
    kept = [torch.empty(0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    for begin in range(0, len(order), ROWS_PER_BATCH):
        chosen = order[begin : begin + ROWS_PER_BATCH]
        batch = pad([rows[i].ids for i in chosen], "right", model.pad_id, model.device)
        seen = residuals(model, batch.input_ids, batch.attention_mask, [hook_point])[hook_point]
        for place, i in enumerate(chosen):
            kept[i] = seen[place, rows[i].n_prompt : len(rows[i].ids)].float().cpu()
    lengths = torch.tensor([len(tokens) for tokens in kept])
    return torch.cat(kept), torch.arange(len(rows)).repeat_interleave(lengths)


@torch.no_grad()
def differences(tokens: Tensor, completions: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Return mean-pooled positive less mean-pooled negative of every pair, `(n_pairs, width)`.

    Args:
        tokens: `(tokens, d_model)`.
        completions: `(tokens,)`, as `completion_tokens` numbers them.
        encode: makes `(tokens, width)` of some of the tokens.
    """
    lengths = completions.bincount()
    spans = zip(
        torch.split(tokens, TOKENS_PER_ENCODE),
        torch.split(completions, TOKENS_PER_ENCODE),
        strict=True,
    )
    sums: Tensor | None = None
    for span, owners in spans:
        encoded = encode(span).float().cpu()
        sums = torch.zeros(len(lengths), encoded.shape[1]) if sums is None else sums
        sums.index_add_(0, owners, encoded)
    assert sums is not None
    means = sums / lengths[:, None]
    return means[0::2] - means[1::2]
