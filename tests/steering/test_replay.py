"""The fast path changes nothing but the time, and leaves the model as it was."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import accumulate, chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.models.llama.modeling_llama import eager_attention_forward

from trimtab.model.families import find_layers
from trimtab.model.hook_points import SITES, HookPoint, Site
from trimtab.model.hooks import edit
from trimtab.model.language_model import LanguageModel
from trimtab.model.unembed import logits
from trimtab.steering.apply import Edit
from trimtab.steering.replay import PlainPathWarning, Replay

ROWS = [
    [1, 30, 41, 52, 63, 74, 85, 96, 107, 118, 129, 140, 9],
    [1, 7],
    [1, 30, 41, 52, 63, 74, 85, 96, 107, 118, 11, 12, 13, 14],
    [5, 6, 7, 8, 9],
    [1, 99, 98, 97],
]
STARTS = [11, 0, 9, 0, 1]  # some rows have nothing before their tail
POINT = HookPoint(1, "hook_resid_post")
SHIFT = 3.0 * torch.randn(16, generator=torch.Generator().manual_seed(1))


def add(x: Tensor) -> Tensor:
    return x + SHIFT


def plain(
    model: LanguageModel, point: HookPoint, row: list[int], start: int, change: Edit = add
) -> Tensor:
    """Logits of one row's tail by a full pass without a cache, changed from `start` on."""

    def on_tail(x: Tensor) -> Tensor:
        return torch.cat([x[:, :start], change(x[:, start:])], dim=1)

    with torch.no_grad(), edit(model, point, on_tail):
        logits = model.module(input_ids=torch.tensor([row]), use_cache=False).logits
    return torch.as_tensor(logits[0, start:])


def prepare(model: LanguageModel, point: HookPoint, groups: list[int] | None = None) -> Replay:
    return Replay(model, point, ROWS, STARTS, STARTS, groups)


def all_tails(replay: Replay, changes: Sequence[Edit | None]) -> list[list[Tensor]]:
    """Logits of every row's tail under every change."""
    found: dict[tuple[int, int], Tensor] = {}
    with torch.no_grad():
        for finals in replay.run(changes):
            made = logits(replay.model, finals.states)
            for change, one in zip(range(len(changes))[finals.changes], made, strict=True):
                for number, place in zip(finals.ids.tolist(), finals.places, strict=True):
                    assert (change, number) not in found
                    found[change, number] = one[place]
    ends = list(accumulate(len(row) - start for row, start in zip(ROWS, STARTS, strict=True)))
    return [
        [
            torch.stack([found[change, i] for i in range(first, end)])
            for first, end in zip([0, *ends], ends, strict=False)
        ]
        for change in range(len(changes))
    ]


def tails(replay: Replay, change: Edit | None) -> list[Tensor]:
    """Logits of every row's tail."""
    return all_tails(replay, [change])[0]


def state(model: LanguageModel) -> tuple[list[object], int, Tensor]:
    """All that a replay could leave behind: swapped forwards, hooks, and what the model says."""
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())
    forwards: list[object] = [m.__dict__.get("forward") for m in model.module.modules()]
    with torch.no_grad():
        return forwards, hooks, model.module(input_ids=torch.tensor([ROWS[0]])).logits


def same_state(one: tuple[list[object], int, Tensor], other: object) -> bool:
    assert isinstance(other, tuple)
    return one[:2] == other[:2] and torch.equal(one[2], other[2])


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("site", SITES)
def test_logits_are_those_of_plain_passes(
    family_model: LanguageModel, site: Site, layer: int
) -> None:
    point = HookPoint(layer, site)
    replay = prepare(family_model, point)
    found, base = tails(replay, add), tails(replay, None)
    for i, (row, start) in enumerate(zip(ROWS, STARTS, strict=True)):
        expected = plain(family_model, point, row, start)
        torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(found[i], base[i], atol=1e-2)


def test_without_an_edit_logits_are_the_models_own(family_model: LanguageModel) -> None:
    found = tails(prepare(family_model, POINT), None)
    for i, (row, start) in enumerate(zip(ROWS, STARTS, strict=True)):
        with torch.no_grad():
            own = family_model.module(input_ids=torch.tensor([row])).logits
        torch.testing.assert_close(found[i], own[0, start:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("site", SITES)
def test_many_edits_at_once_do_what_each_does_alone(
    family_model: LanguageModel, site: Site
) -> None:
    point = HookPoint(1, site)
    changes: list[Edit | None] = [add, None, lambda x: x - SHIFT, lambda x: 0.5 * x]
    together = all_tails(prepare(family_model, point), changes)
    for change, found in zip(changes, together, strict=True):
        for i, (row, start) in enumerate(zip(ROWS, STARTS, strict=True)):
            expected = plain(family_model, point, row, start, change or (lambda x: x))
            torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=1e-4)


def test_rows_that_share_their_prefix_and_more_come_out_as_they_do_apart(
    family_model: LanguageModel,
) -> None:
    apart = tails(prepare(family_model, POINT), add)
    shared = prepare(family_model, POINT, groups=[0, 1, 0, 0, 1])
    together = tails(shared, add)
    for i in range(len(ROWS)):
        torch.testing.assert_close(together[i], apart[i], atol=1e-4, rtol=1e-4)


def test_what_rows_share_is_run_once(tiny_model: LanguageModel) -> None:
    rows, starts = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7], [1, 2, 3, 8]], [2, 2, 2]
    (finals,) = Replay(tiny_model, POINT, rows, starts, starts, [0, 0, 0]).run([None])
    assert finals.states.shape == (1, 6, 16)  # 3, 4, 5, 6, 7 and 8
    assert finals.ids.tolist() == list(range(9))
    assert finals.places.tolist() == [0, 1, 2, 0, 1, 3, 4, 0, 5]


def test_one_run_leaves_nothing_for_the_next(family_model: LanguageModel) -> None:
    replay = prepare(family_model, POINT)
    first, base = tails(replay, add), tails(replay, None)
    again, base_again = tails(replay, add), tails(replay, None)
    for i in range(len(ROWS)):
        assert torch.equal(first[i], again[i])
        assert torch.equal(base[i], base_again[i])


@pytest.mark.parametrize("size", ["NODES_PER_PASS", "COPIES_WIDTH", "TOKENS_PER_PREPARATION"])
def test_passes_of_any_size_give_the_same(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    changes: list[Edit | None] = [add, lambda x: x - SHIFT, None]
    one = all_tails(prepare(tiny_model, POINT), changes)
    for limit in (1, 4, 16):
        monkeypatch.setattr(f"trimtab.steering.replay.{size}", limit)
        other = all_tails(prepare(tiny_model, POINT), changes)
        pairs = zip(chain(*other), chain(*one), strict=True)
        for found, expected in pairs:
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_only_what_lies_above_the_hook_point_is_run(tiny_model: LanguageModel) -> None:
    replay = prepare(tiny_model, HookPoint(2, "hook_mlp_out"))
    ran: list[int] = []

    def note(index: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, _inputs: ran.append(index)

    handles = [
        layer.mlp.register_forward_pre_hook(note(index))  # type: ignore[union-attr]
        for index, layer in enumerate(find_layers(tiny_model.module))
    ]
    try:
        tails(replay, add)
    finally:
        for handle in handles:
            handle.remove()
    assert ran == [2, 3]


@pytest.fixture
def several(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """A replay of several batches."""
    monkeypatch.setattr("trimtab.steering.replay.NODES_PER_PASS", 4)
    return prepare(tiny_model, HookPoint(2, "hook_resid_post"))


def test_the_model_is_whole_while_the_caller_looks_at_a_batch(
    tiny_model: LanguageModel, several: Replay
) -> None:
    before = state(tiny_model)
    for _ in several.run([add]):
        assert same_state(before, state(tiny_model))
    assert same_state(before, state(tiny_model))


def test_a_caller_that_raises_or_walks_away_leaves_the_model_whole(
    tiny_model: LanguageModel, several: Replay
) -> None:
    before = state(tiny_model)

    def work() -> None:
        for _ in several.run([add]):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine") as kept_alive:
        work()
    assert kept_alive.tb is not None  # its traceback holds the half-used generator
    assert same_state(before, state(tiny_model))
    abandoned = several.run([add])
    next(abandoned)
    assert same_state(before, state(tiny_model))
    abandoned.close()  # type: ignore[attr-defined]
    assert same_state(before, state(tiny_model))


def test_an_edit_that_raises_leaves_the_model_whole(
    tiny_model: LanguageModel, several: Replay
) -> None:
    before = state(tiny_model)

    def fail(_: Tensor) -> Tensor:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        list(several.run([fail]))
    assert same_state(before, state(tiny_model))


def test_runs_of_one_model_may_be_interleaved(tiny_model: LanguageModel, several: Replay) -> None:
    other = prepare(tiny_model, HookPoint(0, "hook_resid_pre"))
    with torch.no_grad():
        expected = [finals.states for finals in several.run([add])]
    inner = tails(other, None)
    before = state(tiny_model)
    with torch.no_grad():
        for number, finals in enumerate(several.run([add])):
            for found, alone in zip(tails(other, None), inner, strict=True):
                assert torch.equal(found, alone)
            assert torch.equal(finals.states, expected[number])
    assert same_state(before, state(tiny_model))


def test_a_forward_that_somebody_else_put_in_is_put_back(
    tiny_model: LanguageModel, several: Replay
) -> None:
    layer = find_layers(tiny_model.module)[0]
    own = layer.forward
    layer.forward = own
    try:
        tails(several, add)
        assert layer.__dict__["forward"] is own
    finally:
        del layer.forward


@pytest.fixture
def deaf_to_masks(tiny_model: LanguageModel) -> Iterator[LanguageModel]:
    """A model whose attention heeds no mask that it is given, as flash attention."""
    model = replace(tiny_model, module=deepcopy(tiny_model.module))
    AttentionInterface.register("deaf", heed_no_mask)
    model.module.config._attn_implementation = "deaf"
    yield model
    del AttentionInterface._global_mapping["deaf"]


def heed_no_mask(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **kwargs: Any
) -> Any:
    length, total = query.shape[2], key.shape[2]
    causal = torch.ones(length, total).tril(total - length).log()
    return eager_attention_forward(module, query, key, value, causal, **kwargs)


@pytest.mark.parametrize("masked", [(), ("eager", "sdpa", "deaf")])
def test_a_model_without_the_fast_path_runs_whole_passes_and_says_so(
    deaf_to_masks: LanguageModel, monkeypatch: pytest.MonkeyPatch, masked: tuple[str, ...]
) -> None:
    monkeypatch.setattr("trimtab.steering.replay.MASKED", masked)
    with pytest.warns(PlainPathWarning, match="LlamaForCausalLM with deaf attention"):
        replay = prepare(deaf_to_masks, POINT, groups=[0, 1, 0, 0, 1])
    found = all_tails(replay, [add, None])
    for i, (row, start) in enumerate(zip(ROWS, STARTS, strict=True)):
        expected = plain(deaf_to_masks, POINT, row, start)
        torch.testing.assert_close(found[0][i], expected, atol=1e-4, rtol=1e-4)
        base = plain(deaf_to_masks, POINT, row, start, lambda x: x)
        torch.testing.assert_close(found[1][i], base, atol=1e-4, rtol=1e-4)
