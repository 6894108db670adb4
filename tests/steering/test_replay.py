"""The fast path changes nothing but the time, and leaves the model as it was."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trimtab.model.families import find_layers
from trimtab.model.hook_points import SITES, HookPoint, Site
from trimtab.model.hooks import edit
from trimtab.model.language_model import LanguageModel
from trimtab.steering.replay import Replay

ROWS = [
    [1, 30, 41, 52, 63, 74, 85, 96, 107, 118, 129, 140, 9],
    [1, 7],
    [1, 30, 41, 52, 63, 74, 85, 96, 107, 118, 11, 12, 13, 14],
    [5, 6, 7, 8, 9],
    [1, 99, 98, 97],
]
STARTS = [11, 0, 9, 0, 1]  # some rows have nothing before their tail
SHIFT = 3.0 * torch.randn(16, generator=torch.Generator().manual_seed(1))


def add(x: Tensor) -> Tensor:
    return x + SHIFT


def plain(model: LanguageModel, point: HookPoint, row: list[int], start: int) -> Tensor:
    """Logits of one row's tail by a full pass without a cache, `SHIFT` added from `start` on."""

    def shift(x: Tensor) -> Tensor:
        return torch.cat([x[:, :start], x[:, start:] + SHIFT], dim=1)

    with torch.no_grad(), edit(model, point, shift):
        logits = model.module(input_ids=torch.tensor([row]), use_cache=False).logits
    return torch.as_tensor(logits[0, start:])


def tails(replay: Replay, change: Callable[[Tensor], Tensor] | None) -> dict[int, Tensor]:
    """Logits of every row's tail, without padding."""
    with torch.no_grad():
        return {
            row: logits[i, batch.mask[i]]
            for batch, logits in replay.run(change)
            for i, row in enumerate(batch.rows)
        }


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
    replay = Replay(family_model, point, ROWS, STARTS)
    found, base = tails(replay, add), tails(replay, None)
    assert sorted(found) == list(range(len(ROWS)))
    for i, (row, start) in enumerate(zip(ROWS, STARTS, strict=True)):
        expected = plain(family_model, point, row, start)
        torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(found[i], base[i], atol=1e-2)


def test_without_an_edit_logits_are_the_models_own(family_model: LanguageModel) -> None:
    replay = Replay(family_model, HookPoint(1, "hook_resid_post"), ROWS, STARTS)
    found = tails(replay, None)
    for i, (row, start) in enumerate(zip(ROWS, STARTS, strict=True)):
        with torch.no_grad():
            logits = family_model.module(input_ids=torch.tensor([row])).logits
        torch.testing.assert_close(found[i], logits[0, start:], atol=1e-4, rtol=1e-4)


def test_one_run_leaves_nothing_for_the_next(family_model: LanguageModel) -> None:
    replay = Replay(family_model, HookPoint(1, "hook_resid_post"), ROWS, STARTS)
    first, base = tails(replay, add), tails(replay, None)
    again, base_again = tails(replay, add), tails(replay, None)
    for i in range(len(ROWS)):
        assert torch.equal(first[i], again[i])
        assert torch.equal(base[i], base_again[i])


def test_batches_of_any_size_give_the_same(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = HookPoint(1, "hook_resid_post")
    together = Replay(tiny_model, point, ROWS, STARTS)
    monkeypatch.setattr("trimtab.steering.replay.TAIL_TOKENS_PER_BATCH", 4)
    apart = Replay(tiny_model, point, ROWS, STARTS)
    assert (len(together.batches), len(apart.batches)) == (1, 4)
    one, other = tails(together, add), tails(apart, add)
    for i in range(len(ROWS)):
        torch.testing.assert_close(one[i], other[i], atol=1e-4, rtol=1e-4)


def test_only_what_lies_above_the_hook_point_is_run(tiny_model: LanguageModel) -> None:
    replay = Replay(tiny_model, HookPoint(2, "hook_mlp_out"), ROWS, STARTS)
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
    assert ran == [2, 3] * len(replay.batches)


@pytest.fixture
def several(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """A replay of several batches."""
    monkeypatch.setattr("trimtab.steering.replay.TAIL_TOKENS_PER_BATCH", 4)
    return Replay(tiny_model, HookPoint(2, "hook_resid_post"), ROWS, STARTS)


def test_the_model_is_whole_while_the_caller_looks_at_a_batch(
    tiny_model: LanguageModel, several: Replay
) -> None:
    before = state(tiny_model)
    for _ in several.run(add):
        assert same_state(before, state(tiny_model))
    assert same_state(before, state(tiny_model))


def test_a_caller_that_raises_or_walks_away_leaves_the_model_whole(
    tiny_model: LanguageModel, several: Replay
) -> None:
    before = state(tiny_model)

    def work() -> None:
        for _ in several.run(add):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine") as kept_alive:
        work()
    assert kept_alive.tb is not None  # its traceback holds the half-used generator
    assert same_state(before, state(tiny_model))
    abandoned = several.run(add)
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
        list(several.run(fail))
    assert same_state(before, state(tiny_model))


def test_runs_of_one_model_may_be_interleaved(tiny_model: LanguageModel, several: Replay) -> None:
    other = Replay(tiny_model, HookPoint(0, "hook_resid_pre"), ROWS, STARTS)
    expected = (tails(several, add), tails(other, None))
    before = state(tiny_model)
    with torch.no_grad():
        for batch, logits in several.run(add):
            for inner_batch, inner in other.run(None):
                for i, row in enumerate(inner_batch.rows):
                    assert torch.equal(inner[i, inner_batch.mask[i]], expected[1][row])
            for i, row in enumerate(batch.rows):
                assert torch.equal(logits[i, batch.mask[i]], expected[0][row])
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
