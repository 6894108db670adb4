"""What can be done to the residual stream, and doing it while a model runs or generates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit
from trimtab.model.language_model import LanguageModel
from trimtab.steering.positions import Positions

Edit = Callable[[Tensor], Tensor]
"""Takes activations `(..., d_model)` and returns what replaces them, same shape and dtype."""


class Steering(Protocol):
    """An operation at one hook point whose strength is a multiplier."""

    @property
    def hook_point(self) -> HookPoint:
        """Where the operation acts."""

    @property
    def positions(self) -> Positions:
        """On which positions it acts."""

    def edit(self, multiplier: float) -> Edit | None:
        """Return the edit at this strength; None at 0, where nothing may be touched."""


@contextmanager
def steered(
    model: LanguageModel,
    steering: Steering,
    multiplier: float = 1.0,
    *,
    prompt_length: int | None = None,
) -> Iterator[None]:
    """Steer every forward pass and `generate` call of `model` inside the block.

    A pass without earlier cached tokens is a prompt. Of a prompt, `prompt_end` steers the last
    column (batches are left-padded), or all columns from `prompt_length - 1` on where that is
    given, for a prompt that is run together with its answer. Every pass that continues a cache
    is steered whole, so each generated token is. At multiplier 0 no hook is set at all.
    """
    change = steering.edit(multiplier)
    if change is None:
        yield
        return
    width = _Passes(steering.positions, prompt_length)
    watch = model.module.register_forward_pre_hook(width.note, with_kwargs=True)
    try:
        with edit(model, steering.hook_point, lambda x: width.keep_unsteered(x, change(x))):
            yield
    finally:
        watch.remove()


class _Passes:
    """Tells a prompt's pass from one that continues a cache."""

    def __init__(self, positions: Positions, prompt_length: int | None) -> None:
        self.positions = positions
        self.prompt_length = prompt_length
        self.continues = False

    def note(self, _module: torch.nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        self.continues = cache is not None and cache.get_seq_length() > 0

    def keep_unsteered(self, before: Tensor, after: Tensor) -> Tensor:
        if self.continues or self.positions == "all":
            return after
        if self.prompt_length is not None:
            start = self.prompt_length - (self.positions == "prompt_end")
        else:
            start = before.shape[1] - (self.positions == "prompt_end")
        return torch.cat([before[:, :start], after[:, start:]], dim=1)
