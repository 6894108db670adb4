"""The benchmark of scoring: its ways agree, and its bound counts what is really multiplied."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.scoring_task import Task, cost, make_task
from experiments.benchmarks.scoring_ways import plain_effects, tokenise, trimtab_effects
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.steering.margin import Margin

POINT = HookPoint(1, "hook_resid_post")
VECTORS = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
PROMPT = 40


@pytest.fixture(scope="module", params=[1, 4, 19])
def task(request: pytest.FixtureRequest, tiny_model: LanguageModel) -> Task:
    return make_task(tiny_model, 3, PROMPT, request.param)


def test_a_task_has_the_lengths_that_it_was_asked_for(
    tiny_model: LanguageModel, task: Task
) -> None:
    assert len(task.samples) == 3
    for sample in task.samples:
        for _, text in sample.sides:
            row = render(tiny_model, sample.messages, text)
            assert (row.n_prompt, len(row.ids)) == (PROMPT, PROMPT + task.completion)
    assert task.letters == all(sample.single_letter for sample in task.samples)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_the_ways_give_the_same_effects(tiny_model: LanguageModel, task: Task, batch: int) -> None:
    rows = tokenise(tiny_model, task)
    base = plain_effects(tiny_model, POINT, rows, torch.zeros(1, 16), batch)
    plain = plain_effects(tiny_model, POINT, rows, VECTORS, batch) - base
    fast = trimtab_effects(Margin(tiny_model, task.samples, POINT), VECTORS)
    torch.testing.assert_close(fast.float(), plain, atol=1e-4, rtol=0)
    assert plain.abs().max() > 0.01


def products(way: Callable[[], Tensor]) -> int:
    """Multiply-adds of the matrix products in one call, those of attention left out."""
    with FlopCounterMode(display=False) as counter:
        way()
    counts = counter.get_flop_counts()["Global"]
    aten = torch.ops.aten  # attention is an operation of its own
    found: int = sum(counts.get(op, 0) for op in (aten.mm, aten.addmm, aten.bmm))
    return found // 2


def test_the_bound_counts_the_products_that_are_made(tiny_model: LanguageModel, task: Task) -> None:
    config = tiny_model.module.config
    margin, rows = Margin(tiny_model, task.samples, POINT), tokenise(tiny_model, task)
    assert margin.base.shape == (3,)
    per_key = 2 * config.num_attention_heads * config.head_dim
    later = range(1, task.completion)
    whole = sum(range(1, PROMPT + task.completion))
    tail = PROMPT + 2 * sum(PROMPT + i for i in later)
    needed = cost(config, task, POINT.layer + 1)

    made = products(lambda: plain_effects(tiny_model, POINT, rows, VECTORS[:1], 8))
    attention = len(rows.input_ids) * config.num_hidden_layers * whole * per_key
    assert needed.plain == made + attention

    made = products(lambda: trimtab_effects(margin, VECTORS[:1]))
    attention = 3 * 2 * tail * per_key  # two layers above the hook point
    assert needed.fast == made + attention
    assert needed.bound > 1
