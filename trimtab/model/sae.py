"""A sparse autoencoder (SAE) on a model's residual stream, checked against the model it is for.

sae_lens reads it and encodes; everything downstream rests on `decode(f) == f @ W_dec + b_dec`, so
an SAE whose decoder does anything else, or that rescales every token by itself, is refused.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trimtab.errors import ModelError
from trimtab.model.default import default_sae_folder
from trimtab.model.hook_points import HookPoint
from trimtab.model.hub import loading_errors
from trimtab.model.language_model import json_sha256, weights_sha256
from trimtab.model.sae_checks import SaeModelWarning, check_config, make_linear

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel

__all__ = ["SAE", "SaeModelWarning", "load_sae"]


@dataclass(frozen=True, eq=False)
class SAE:
    """A sparse autoencoder whose features are linear in its decoder.

    `module` has the parameters `W_dec` `(d_sae, d_in)` and `b_dec` `(d_in,)` and a method
    `encode`; it is an SAE of sae_lens, or anything of that shape.
    """

    spec: str
    hook_point: HookPoint
    module: nn.Module = field(repr=False)

    @property
    def W_dec(self) -> Tensor:
        """Decoder directions `(d_sae, d_in)`, as stored: not of unit norm."""
        return self.module.get_parameter("W_dec")

    @property
    def b_dec(self) -> Tensor:
        """What no feature at all decodes to, `(d_in,)`."""
        return self.module.get_parameter("b_dec")

    @property
    def d_in(self) -> int:
        """Width of the activations that are encoded."""
        return int(self.W_dec.shape[1])

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return int(self.W_dec.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.W_dec.device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and feature activations."""
        return self.W_dec.dtype

    def encode(self, x: Tensor) -> Tensor:
        """Feature activations `(..., d_sae)` of activations `(..., d_in)`, in the SAE's dtype."""
        features: Tensor = self.module.encode(x.to(self.device, self.dtype))  # type: ignore[operator]
        return features

    def decode(self, features: Tensor) -> Tensor:
        """Activations `(..., d_in)` of feature activations `(..., d_sae)`."""
        return features @ self.W_dec + self.b_dec

    def fingerprint(self) -> dict[str, str]:
        """Everything about the SAE that changes a number.

        Keys: `sae`, `sae_hook_point`, `sae_sha256` (names and bytes of its state dict in the dtype
        it runs in), `sae_config_sha256` (what the weights are run by), `sae_dtype`.
        """
        return {
            "sae": self.spec,
            "sae_hook_point": str(self.hook_point),
            "sae_sha256": self._weights_sha256,
            "sae_config_sha256": json_sha256(_rules(self.module)),
            "sae_dtype": str(self.dtype).removeprefix("torch."),
        }

    @cached_property
    def _weights_sha256(self) -> str:
        return weights_sha256(self.module)


def _rules(module: nn.Module) -> dict[str, Any]:
    """How `encode` runs the weights, as far as a module of sae_lens says it: architecture, k,
    whether `b_dec` is taken from the input; not where it runs, nor how it was trained."""
    cfg = getattr(module, "cfg", None)
    rules = {} if cfg is None else cfg.to_dict()
    return {k: rules[k] for k in rules.keys() - {"device", "dtype", "metadata"}}


def load_sae(
    spec: str | None,
    model: "LanguageModel",
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> SAE | None:
    """Load the SAE called `spec` for `model`.

    Args:
        spec: None or "default" for the packaged one, "none" for no SAE (the result is None), a
            folder with `cfg.json` and `sae_weights.safetensors`, or `release/id` of sae_lens, split
            at the first slash: `gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical`.
        model: the model whose activations it will encode.
        device: defaults to the model's.
        dtype: of weights and features; they are float32 whatever the model runs in.

    Raises:
        ModelError: the SAE cannot be found, downloaded or read, holds pickled code, or does not fit
            the model: hook point, width, kind, normalisation.

    Warns:
        SaeModelWarning: it was trained on another model, such as the base of a chat model.
    """
    if spec == "none":
        return None
    spec = "default" if spec is None else spec
    folder = default_sae_folder() if spec == "default" else Path(spec)
    release, _, sae_id = spec.partition("/")
    if not folder.is_dir() and not sae_id:
        raise ModelError(
            f"SAE {spec!r} is neither a folder here nor of the form release/id (see the list of "
            "sae_lens releases); 'default' is the packaged SAE and 'none' is no SAE"
        )
    where = str(device or model.device)
    with _weights_only(), loading_errors(f"SAE {spec!r}"):
        sae_lens = _import_sae_lens()
        if folder.is_dir():
            cfg = _folder_config(folder)
            hook_point = check_config(spec, cfg, model)
            module = sae_lens.SAE.load_from_disk(folder, device=where, dtype=_name(dtype))
        else:
            cfg = _release_config(release, sae_id)
            hook_point = check_config(spec, cfg, model)
            module = sae_lens.SAE.from_pretrained(release, sae_id, where, dtype=_name(dtype))
    module.eval().requires_grad_(False)
    make_linear(spec, module)
    return SAE(spec, hook_point, module)


def _folder_config(folder: Path) -> dict[str, Any]:
    from sae_lens.loading.pretrained_sae_loaders import (
        get_sae_lens_config_from_disk,
        handle_config_defaulting,
    )

    return dict(handle_config_defaulting(get_sae_lens_config_from_disk(folder)))


def _release_config(release: str, sae_id: str) -> dict[str, Any]:
    """The configuration alone, so that what does not fit is refused before its weights come."""
    from sae_lens.loading.pretrained_sae_loaders import load_sae_config_from_huggingface
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    if release not in releases:
        raise ModelError(
            f"SAE {release}/{sae_id}: no such folder here, and sae_lens knows no release "
            f"{release!r}; for an SAE that is not in its list, give the path of its folder"
        )
    if sae_id not in releases[release].saes_map:
        some = ", ".join(list(releases[release].saes_map)[:5])
        raise ModelError(f"SAE release {release!r} has no id {sae_id!r}; it has {some}, ...")
    return dict(load_sae_config_from_huggingface(release, sae_id))


def _import_sae_lens() -> Any:
    with warnings.catch_warnings():
        # its own use of a deprecated module of transformer_lens
        warnings.simplefilter("ignore", DeprecationWarning)
        import sae_lens
    return sae_lens


@contextmanager
def _weights_only() -> Iterator[None]:
    """Make every `torch.load` inside refuse pickled code, whatever it was called with.

    Some of sae_lens' loaders read `.pt` files; torch heeds this variable above the caller's wish.
    """
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
