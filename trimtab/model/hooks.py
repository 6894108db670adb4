"""Read and change activations at hook points while a model runs.

Hooks fire in the order in which their contexts were entered: what is recorded inside an `edit` at
the same hook point is the edited activation. Every hook is gone when its context ends, whichever
way it ends.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trimtab.errors import ModelError
from trimtab.model.families import find_module
from trimtab.model.hook_points import HookPoint

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel


class _Stop(Exception):
    """Ends a forward pass whose remaining layers nobody needs."""


@contextmanager
def edit(
    model: "LanguageModel", hook_point: HookPoint, fn: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Replace the activation at `hook_point` by `fn` of it, in every forward pass run inside.

    `fn` takes and returns `(batch, seq, d_model)`. If it returns the very tensor it was
    given, the pass is left untouched, bit for bit. Gradients flow through `fn`.

    Raises:
        ModelError: the model has no such hook point, or `fn` changed its shape or dtype.
    """

    def checked(x: Tensor) -> Tensor:
        y = fn(x)
        if y.shape != x.shape or y.dtype != x.dtype:
            raise ModelError(
                f"the edit at {hook_point} returned {y.dtype} of shape {tuple(y.shape)} "
                f"for {x.dtype} of shape {tuple(x.shape)}"
            )
        return y

    with _hooked(model, hook_point, checked):
        yield


@contextmanager
def record(
    model: "LanguageModel", hook_points: Iterable[HookPoint], *, stop: bool = False
) -> Iterator[dict[HookPoint, Tensor]]:
    """Collect the activations at `hook_points` of the forward pass that is run inside.

    They are `(batch, seq, d_model)` and the model's own, neither copied nor detached. A second
    forward pass inside replaces them. With `stop` the pass ends at the deepest hook point, and with
    it the `with` block: nothing after that call is run.

    Raises:
        ModelError: the model has no such hook point.
    """
    wanted = sorted(set(hook_points))
    activations: dict[HookPoint, Tensor] = {}

    def keep(hook_point: HookPoint) -> Callable[[Tensor], Tensor]:
        def fn(x: Tensor) -> Tensor:
            activations[hook_point] = x
            if stop and len(activations) == len(wanted):
                raise _Stop
            return x

        return fn

    with ExitStack() as stack:
        for hook_point in wanted:
            stack.enter_context(_hooked(model, hook_point, keep(hook_point)))
        with suppress(_Stop):
            yield activations


@torch.no_grad()
def residuals(
    model: "LanguageModel",
    input_ids: Tensor,
    attention_mask: Tensor | None,
    hook_points: Iterable[HookPoint],
    *,
    past_key_values: Any = None,
    position_ids: Tensor | None = None,
) -> dict[HookPoint, Tensor]:
    """Activations `(batch, seq, d_model)` at `hook_points` for `input_ids` `(batch, seq)`; no layer
    above them is run.

    A `past_key_values` cache is extended in place, for the layers that ran. `attention_mask` covers
    the cached tokens too. With left padding pass `position_ids`: models that are not told count the
    pads (GPT-2 is off by 0.4 then).

    Raises:
        ModelError: the model has no such hook point.
    """
    with record(model, hook_points, stop=True) as activations:
        model.module(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=past_key_values is not None,
        )
    return activations


@contextmanager
def _hooked(
    model: "LanguageModel", hook_point: HookPoint, fn: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Pass the activation at `hook_point` through `fn`; its argument returned means no change."""
    module = find_module(model.module, hook_point)

    def before(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        x = args[0] if args else kwargs["hidden_states"]
        y = fn(x)
        if y is x:
            return None
        return ((y, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": y})

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        # attention returns (output, weights); layers return a tensor now and a tuple in older
        # releases
        x = output[0] if isinstance(output, tuple) else output
        y = fn(x)
        if y is x:
            return None
        return (y, *output[1:]) if isinstance(output, tuple) else y

    if hook_point.site == "hook_resid_pre":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
