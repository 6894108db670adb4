"""Whether an SAE fits a model, and trimtab's algebra; refused before its weights are fetched."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from trimtab.errors import ModelError
from trimtab.model.families import find_module
from trimtab.model.hook_points import HookPoint, parse_hook_point

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel

# Encoders that see one token at a time and decoders that are one matrix. Transcoders predict
# another hook point; temporal SAEs look at the tokens before.
_ARCHITECTURES = ("standard", "gated", "topk", "jumprelu", "matching_pursuit")


class SaeModelWarning(UserWarning):
    """The SAE was trained on another model than the one it is used with."""


def check_config(spec: str, cfg: Mapping[str, Any], model: "LanguageModel") -> HookPoint:
    """Refuse an SAE that does not fit `model`; return its hook point."""
    about = {**cfg, **cfg.get("metadata", {})}
    architecture = about.get("architecture", "standard")
    if architecture not in _ARCHITECTURES:
        raise ModelError(
            f"SAE {spec!r} is a {architecture}; trimtab takes {', '.join(_ARCHITECTURES)}, which "
            "encode and decode one token at one hook point"
        )
    if about.get("hook_head_index") is not None:
        raise ModelError(f"SAE {spec!r} reads a single attention head, not the residual stream")
    try:
        hook_point = parse_hook_point(str(about.get("hook_name")))
    except ModelError as error:
        raise ModelError(f"SAE {spec!r}: {error}") from error
    find_module(model.module, hook_point)
    if about["d_in"] != model.d_model:
        raise ModelError(
            f"SAE {spec!r} is {about['d_in']} wide and model {model.name} {model.d_model}: "
            "it was made for another model; use one made for this model, or 'none'"
        )
    normalisation = about.get("normalize_activations", "none")
    if normalisation in ("layer_norm", "constant_norm_rescale"):
        raise ModelError(
            f"SAE {spec!r} rescales each token separately (normalize_activations "
            f"{normalisation!r}): its features are not linear in the residual, so pairs' shares "
            "would not add up to the vector; use an SAE without this, or with the scale folded in"
        )
    trained_on = about.get("model_name")
    if trained_on and not _same_model(trained_on, model.name):
        warnings.warn(
            f"SAE {spec!r} was trained on {trained_on} and is used with {model.name}; features of "
            "a base model fit its chat model only in part, so check the reconstruction first",
            SaeModelWarning,
            stacklevel=3,
        )
    return hook_point


def _same_model(trained_on: str, name: str) -> bool:
    """Whether two names, each of the hub, of TransformerLens or a path, are of one model."""

    def plain(name: str) -> str:
        stem = name.rstrip("/").rpartition("/")[2].lower().removesuffix(".gguf")
        return {"gpt2-small": "gpt2"}.get(stem, stem)

    a, b = plain(trained_on), plain(name)
    # a GGUF file's name goes on with its quantisation: model.Q4_1.gguf
    return a == b or (name.endswith(".gguf") and b.startswith((f"{a}.", f"{a}-q")))


def make_linear(spec: str, module: Any) -> None:
    """Fold what can be folded, and make sure that decoding is `f @ W_dec + b_dec`."""
    if module.cfg.normalize_activations != "none":
        raise ModelError(
            f"SAE {spec!r} expects activations normalised by "
            f"{module.cfg.normalize_activations!r} but has no factor to fold in; "
            "fold it with sae_lens (fold_activation_norm_scaling_factor) and save it to a folder"
        )
    if getattr(module.cfg, "rescale_acts_by_decoder_norm", False):
        module.fold_W_dec_norm()
    some = torch.linspace(0, module.cfg.d_sae - 1, 8).long()
    features = torch.zeros(8, module.cfg.d_sae).to(module.W_dec)
    features[torch.arange(8), some] = 2.0
    expected = features @ module.W_dec + module.b_dec
    if not torch.allclose(module.decode(features), expected, rtol=1e-3, atol=1e-5):
        raise ModelError(f"SAE {spec!r} does not decode as features @ W_dec + b_dec")
