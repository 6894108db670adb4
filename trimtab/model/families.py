"""Which plain Hugging Face modules carry the four sites, one entry an architecture.

Every layer computes `resid_post = resid_pre + attn_out + mlp_out` (in parallel in GPT-NeoX). What
is added to the residual is the site's value: where a family normalises a block's output before
adding it (Gemma 2 and 3), that norm's output is it. `post_attention_layernorm` is such a norm in
Gemma and the norm *before* the MLP in Llama, so families are told apart by `model_type` and never
by the names of their modules.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from trimtab.errors import ModelError
from trimtab.model.hook_points import HookPoint

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Family:
    """Where the layers are, and which of a layer's modules' outputs are added to the residual."""

    layers: str
    attn_out: str
    mlp_out: str
    final_norm: str


_LLAMA = Family("model.layers", "self_attn", "mlp", "model.norm")
_GEMMA_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": Family("model.layers", *_GEMMA_NORMS, "model.norm"),
    "gemma3_text": Family("model.layers", *_GEMMA_NORMS, "model.norm"),
    "gemma3": Family("model.language_model.layers", *_GEMMA_NORMS, "model.language_model.norm"),
    "gpt2": Family("transformer.h", "attn", "mlp", "transformer.ln_f"),
    "gpt_neox": Family("gpt_neox.layers", "attention", "mlp", "gpt_neox.final_layer_norm"),
}


def family_of(config: Any) -> Family:
    """The family of a model, by its Hugging Face configuration: no weights are needed to ask.

    Raises:
        ModelError: the architecture is none of `FAMILIES`; the message says what was looked for.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        name = ", ".join(getattr(config, "architectures", None) or [type(config).__name__])
        raise ModelError(
            f"architecture {name} (model_type {config.model_type!r}) is not supported: looked for "
            f"one of the model types {', '.join(FAMILIES)}, whose attention and MLP outputs "
            "trimtab knows how to hook"
        )
    return family


def find_layers(module: "nn.Module") -> "list[nn.Module]":
    """The decoder layers, first to last.

    Raises:
        ModelError: no list of layers lies where the family keeps it.
    """
    path = family_of(module.config).layers
    try:
        return list(attrgetter(path)(module))
    except AttributeError as error:
        raise ModelError(
            f"{type(module).__name__} has no list of layers: looked for {path}"
        ) from error


def find_final_norm(module: "nn.Module") -> "nn.Module":
    """The norm between the last layer and the unembedding.

    Raises:
        ModelError: none lies where the family keeps it.
    """
    path = family_of(module.config).final_norm
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        raise ModelError(f"{type(module).__name__} has no final norm at {path}") from error


def find_module(module: "nn.Module", hook_point: HookPoint) -> "nn.Module":
    """The module whose input (`hook_resid_pre`) or output (the other sites) is the hook point.

    Raises:
        ModelError: the model has no such layer, or the layer has no such module.
    """
    layers = find_layers(module)
    if hook_point.layer >= len(layers):
        raise ModelError(
            f"hook point {hook_point} does not exist: the model has {len(layers)} layers, "
            f"0 to {len(layers) - 1}"
        )
    layer = layers[hook_point.layer]
    family = family_of(module.config)
    if hook_point.site in ("hook_resid_pre", "hook_resid_post"):
        return layer
    name = family.attn_out if hook_point.site == "hook_attn_out" else family.mlp_out
    try:
        return layer.get_submodule(name)
    except AttributeError as error:
        raise ModelError(
            f"hook point {hook_point} not found: looked for {name} in {type(layer).__name__}"
        ) from error
