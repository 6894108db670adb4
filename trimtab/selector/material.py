"""What a run works on: who is in which split, the parts to choose from, the questions to answer."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.pairs import Message, Sample, Splits, split
from trimtab.pairs.groups import group_key, prompt_key
from trimtab.selector.parts import Parts
from trimtab.store import Store

if TYPE_CHECKING:
    from trimtab.model.sae import SAE

MAX_TUNE = 40  # samples and prompts that every candidate is measured on
MAX_REPORT = 120  # held-out samples that the report measures on
MIN_PROMPTS = 8  # below so many prompts of its own, `tune` is lent questions
ROUNDING = 1e-5  # of a column's largest row: texts that differ by less do not differ

Conversation = tuple[Message, ...]


@dataclass(frozen=True, eq=False)
class Material:
    """The samples of one behaviour, split by group, and what is made of each split.

    Attributes:
        samples: every usable sample.
        splits: ids by split; no group is in two of them.
        select: samples that vectors are made of, in the order of the parts' rows.
        tune: samples that candidates are measured on; a draw, where there are many.
        report: samples that only the proof is measured on; a draw, where there are many.
        pools: the rows of `select`, by pooling.
        prompts: conversations whose replies are judged while choosing, each once: those of `tune`,
            or half of the questions where `tune` has next to none (raw texts, personas).
        questions: conversations whose replies are judged in the report, each once.
        questions_seen: questions left out because they are prompts of `select` or `tune`.
    """

    samples: tuple[Sample, ...]
    splits: Splits
    select: tuple[Sample, ...]
    tune: tuple[Sample, ...]
    report: tuple[Sample, ...]
    pools: dict[str, Parts]
    prompts: tuple[Conversation, ...]
    questions: tuple[Conversation, ...]
    questions_seen: tuple[str, ...]

    @property
    def seen(self) -> tuple[Sample, ...]:
        """Every sample of `select` and `tune`: what a judge may learn from."""
        by_id = {sample.id: sample for sample in self.samples}
        return tuple(by_id[i] for i in (*self.splits.select, *self.splits.tune))


def check_behavior(store: Store, behavior: str) -> None:
    """Raise SelectionError where the store has no such behaviour."""
    if behavior not in store.behaviors():
        known = ", ".join(store.behaviors())
        raise SelectionError(f"{store.path} has no behaviour {behavior!r}; it has {known}")


def gather(
    store: Store,
    sae: "SAE | None",
    behavior: str,
    *,
    questions: Sequence[str] | None,
    poolings: Sequence[str],
    shares: tuple[float, float, float],
    seed: int,
) -> Material:
    """Split a behaviour's samples and gather what each split gives.

    Raises:
        SelectionError: there is no such behaviour, or a split of unpaired texts has one side only.
        PairsError: there are too few groups to split.
    """
    check_behavior(store, behavior)
    usable = set(store.matrix(behavior).sample_ids)
    samples = tuple(sample for sample in store.samples(behavior) if sample.id in usable)
    splits = split(samples, seed, shares)
    by_id = {sample.id: sample for sample in samples}
    select = tuple(by_id[i] for i in splits.select)
    tune = draw([by_id[i] for i in splits.tune], MAX_TUNE, seed)
    report = draw([by_id[i] for i in splits.report], MAX_REPORT, seed)
    for name, part in (("select", select), ("tune", tune), ("report", report)):
        check_sides(name, part)
    seen = {group_key(by_id[i]) for i in (*splits.select, *splits.tune)}
    asked, known = _questions(questions, report, seen)
    prompts = distinct(sample.messages for sample in tune)
    if questions is not None and len(prompts) < min(MIN_PROMPTS, len(tune) // 2):
        prompts, asked = _halves(asked, seed)
    return Material(
        samples=samples,
        splits=splits,
        select=select,
        tune=tune,
        report=report,
        pools={name: parts_of(store, sae, behavior, name, samples, select) for name in poolings},
        prompts=prompts,
        questions=asked,
        questions_seen=known,
    )


def groups_of(conversations: Sequence[Conversation], samples: Sequence[Sample]) -> list[str]:
    """Return the groups of conversations: of the samples that ask the same, else each its own."""
    return [
        next((sample.group for sample in samples if sample.messages == asked), f"prompt {i}")
        for i, asked in enumerate(conversations)
    ]


def draw(samples: Sequence[Sample], most: int, seed: int) -> tuple[Sample, ...]:
    """Return at most `most` samples, in an order that their files do not decide, sides in turn."""

    kinds: dict[bool, list[Sample]] = {True: [], False: []}
    for sample in sorted(samples, key=lambda sample: _random_order(seed, sample.id)):
        kinds[sample.positive is not None].append(sample)
    mixed = [s for turn in zip_longest(*kinds.values()) for s in turn if s is not None]
    return tuple(mixed[:most])


def _random_order(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()


def check_sides(name: str, samples: Sequence[Sample]) -> None:
    """Raise SelectionError where the samples of a split are of one side only."""
    if {side for sample in samples for side, _ in sample.sides} != {"positive", "negative"}:
        raise SelectionError(
            f"the split {name!r} has texts of one side only; add texts, or split with another seed"
        )


def _questions(
    questions: Sequence[str] | None, report: Sequence[Sample], seen: set[str]
) -> tuple[tuple[Conversation, ...], tuple[str, ...]]:
    """Return the conversations to judge, and the questions that were part of the choice."""
    if questions is None:
        unseen = [sample for sample in report if group_key(sample) not in seen]
        return distinct(sample.messages for sample in unseen), ()
    keys = {question: prompt_key(question) for question in questions}
    known = tuple(q for q in questions if keys[q] in seen)
    new = {keys[q]: q for q in reversed(questions) if keys[q] not in seen}
    return tuple(({"role": "user", "content": q},) for q in reversed(new.values())), known


def distinct(conversations: Iterable[Conversation]) -> tuple[Conversation, ...]:
    """Return every conversation once, in their order; raw texts have none."""
    return tuple({json.dumps(c): c for c in conversations if c}.values())


def _halves(
    questions: Sequence[Conversation], seed: int
) -> tuple[tuple[Conversation, ...], tuple[Conversation, ...]]:
    """Split questions in two, in an order that their file does not decide."""
    order = sorted(questions, key=lambda c: _random_order(seed, json.dumps(c)))
    return tuple(order[::2]), tuple(order[1::2])


def parts_of(
    store: Store,
    sae: "SAE | None",
    behavior: str,
    pooling: str,
    samples: Sequence[Sample],
    select: Sequence[Sample],
) -> Parts:
    """Return the rows of `select`, none of which rests on a sample outside of it.

    Args:
        store: holds the behaviour's samples.
        sae: the store's SAE; None leaves features out.
        behavior: which behaviour.
        pooling: of the rows.
        samples: every usable sample of the behaviour.
        select: those that the rows are of, in their order.
    """
    stored = store.matrix(behavior, pooling=pooling)  # type: ignore[arg-type]
    index = {sample_id: i for i, sample_id in enumerate(stored.sample_ids)}
    order = [index[sample.id] for sample in samples]
    chosen = [samples.index(sample) for sample in select]
    signs = torch.tensor([0 if s.is_pair else 1 if s.positive else -1 for s in samples])

    def rows(matrix: Tensor) -> Tensor:
        matrix = matrix[order].float().cpu()
        return matrix[chosen] if not signs.any() else _contrast_within(matrix, signs, chosen)

    def features() -> Tensor | None:
        if sae is None or stored.features is None:
            return None
        if len(stored.feature_ids) == sae.d_sae:
            return rows(stored.features)
        every = torch.zeros(len(chosen), sae.d_sae)  # the cache keeps only features that fire
        every[:, list(stored.feature_ids)] = rows(stored.features)
        return every

    return Parts(
        tuple(sample.id for sample in select),
        rows(stored.residual),
        features(),
        None if sae is None else sae.W_dec.detach().float().cpu(),
    )


def _contrast_within(rows: Tensor, signs: Tensor, chosen: list[int]) -> Tensor:
    """Centre and weight unpaired texts by the chosen ones alone.

    The store's row is `sign * (pooled - mean of all) * n / n_side`; this one has the mean, n and
    n_side of the chosen. A feature that is silent in all of them gets rows of zeros: what rounding
    would leave of it is tiny, but a multiplier knows no tiny.
    """
    own = signs[chosen]
    sides = torch.tensor([int((signs == s).sum()) for s in signs.tolist()])
    pooled = rows[chosen] * (own * sides[chosen] / len(signs))[:, None]
    of_side = torch.tensor([int((own == s).sum()) for s in own.tolist()])
    centred = pooled - pooled.mean(0)
    same = centred.abs().amax(0) <= ROUNDING * rows.abs().amax(0)
    return centred.masked_fill(same, 0.0) * (own * len(own) / of_side)[:, None]
