"""A causal language model with its tokenizer, from the hub, a local folder or a GGUF file."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trimtab.errors import ModelError
from trimtab.model.default import DEFAULT_MODEL, default_model_file
from trimtab.model.dtype import choose_device, choose_dtype
from trimtab.model.families import family_of, find_layers
from trimtab.model.hub import loading_errors

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

NO_RULES = {
    "_name_or_path", "architectures", "transformers_version", "dtype", "id2label", "label2id",
    "problem_type", "output_attentions", "output_hidden_states", "return_dict", "use_cache",
    "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id",
}  # fmt: skip
"""Of a model's configuration: its name and origin, how outputs are handed over, and where training
and generation begin and end. The rest may change a number, and is hashed."""


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A model in evaluation mode whose weights take no gradient, and its tokenizer.

    `name` is what `load_model` was asked for; `revision` is the hub's commit, "" for a model that
    is not from the hub.
    """

    name: str
    module: "PreTrainedModel" = field(repr=False)
    tokenizer: "PreTrainedTokenizerBase" = field(repr=False)
    revision: str = ""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.module.config.get_text_config().hidden_size)

    @property
    def context(self) -> int | None:
        """Tokens that the model can read at once; None where it states no limit."""
        stated = getattr(self.module.config.get_text_config(), "max_position_embeddings", None)
        return int(stated) if stated else None

    @cached_property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(find_layers(self.module))

    @property
    def device(self) -> torch.device:
        """Where input ids go; with a `device_map`, the device of the embeddings."""
        return torch.device(self.module.get_input_embeddings().weight.device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and activations."""
        dtype: torch.dtype = self.module.dtype
        return dtype

    @property
    def pad_id(self) -> int:
        """A token id to pad with; masked out, so any will do where the tokenizer has none."""
        pad_id = self.tokenizer.pad_token_id
        return 0 if pad_id is None else int(pad_id)

    def fingerprint(self) -> dict[str, str]:
        """Everything about the model that changes a number: name, revision, dtype and hashes of
        weights, configuration and text rules.

        Keys: `model`, `model_revision`, `model_sha256` (names and bytes of the state dict, so it
            depends on the dtype), `model_config_sha256` (does not), `tokenizer_sha256`,
            `chat_template_sha256`, `model_dtype`.
        """
        return {
            "model": self.name,
            "model_revision": self.revision,
            "model_sha256": self._weights_sha256,
            "model_config_sha256": json_sha256(_rules(self.module.config)),
            "tokenizer_sha256": json_sha256(_tokenizer_rules(self.tokenizer)),
            "chat_template_sha256": json_sha256(self.tokenizer.chat_template),
            "model_dtype": str(self.dtype).removeprefix("torch."),
        }

    @cached_property
    def _weights_sha256(self) -> str:
        return weights_sha256(self.module)


def load_model(
    name: str | None = None,
    *,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    device_map: Any = None,
) -> LanguageModel:
    """Load a causal language model of one of the supported families.

    Only safetensors and GGUF weights are read: no pickle.

    Args:
        name: None or "default" for the embedded default, a folder, a `.gguf` file, or a name on the
            Hugging Face hub.
        dtype: "float32", "bfloat16", "float16", or "auto": bfloat16 where the device runs it
            faster, by a short measurement on a CPU. Compare effects in float32; bfloat16 is for
            capture and generation.
        device: "cpu", "cuda", "cuda:1", and so on; "auto": CUDA if there is one; or "balanced":
            over all GPUs, for a model larger than one.
        revision: branch, tag or commit on the hub.
        device_map: which layers go where, as in transformers; excludes `device`.

    Raises:
        ModelError: the model cannot be found, downloaded or read, is of another architecture, or
            does not fit.
    """
    if device_map is not None and device != "auto":
        raise ModelError(f"give a device ({device}) or a device_map, not both")
    if device == "balanced":
        device, device_map = "auto", "balanced"
    target = choose_device(device)
    torch_dtype = choose_dtype(dtype, target)
    if name in (None, "default", DEFAULT_MODEL):
        name, source = DEFAULT_MODEL, str(default_model_file())
    else:
        name = source = str(name)

    where: dict[str, Any] = {"pretrained_model_name_or_path": source}
    local = Path(source).exists()
    if Path(source).is_file():
        if not source.endswith(".gguf"):
            raise ModelError(f"{source} is a file, but not a .gguf file; give its folder")
        where = {
            "pretrained_model_name_or_path": str(Path(source).parent),
            "gguf_file": Path(source).name,
        }
    with _quiet(bars=not local), loading_errors(f"model {name}"):
        module, tokenizer, commit = _load(
            where, None if local else revision, torch_dtype, device_map
        )

    if any(parameter.is_meta for parameter in module.parameters()):
        raise ModelError(
            f"model {name} does not fit: layers were put on the disk or in CPU memory, where "
            "trimtab cannot use them; use more or larger GPUs, or dtype bfloat16"
        )
    if device_map is None:
        module.to(target)
    module.eval().requires_grad_(False)
    if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return LanguageModel(name, module, tokenizer, "" if local else commit)


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a module's state dict, ordered by name."""
    digest = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().contiguous().reshape(-1).cpu()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def json_sha256(value: object) -> str:
    """SHA-256 of a value's JSON with sorted keys; what JSON does not know counts as its text."""
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _load(
    where: dict[str, Any], revision: str | None, dtype: torch.dtype, device_map: Any
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase, str]":
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    # The configuration comes first: an unsupported architecture is refused before its weights are
    # downloaded.
    config = AutoConfig.from_pretrained(**where, revision=revision)
    family_of(config)
    commit = _commit(where["pretrained_model_name_or_path"], revision)
    where = {**where, "revision": commit or revision}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    module = AutoModelForCausalLM.from_pretrained(
        **where, config=config, dtype=dtype, device_map=device_map, use_safetensors=True
    )
    return module, tokenizer, commit


def _commit(name: str, revision: str | None) -> str:
    """The commit that the hub's cache holds for `revision`; "" for what is not from the hub."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).exists():
        return ""
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(config).parent.name if isinstance(config, str) else ""


@contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """Keep transformers' log out of sight, and its progress bars too unless it may download."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    # The bar of the GGUF conversion heeds no switch of transformers, hence the redirection.
    with redirect_stderr(io.StringIO()) if not bars else _nothing():
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _tokenizer_rules(tokenizer: Any) -> object:
    """All that decides which ids a text becomes, without the state that earlier calls left."""
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return [type(tokenizer).__name__, tokenizer.get_vocab(), special]
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    return [{**rules, "truncation": None, "padding": None}, special]


def _rules(config: "PreTrainedConfig") -> dict[str, Any]:
    """What the weights are run by: activation functions, epsilons, rotations, windows, caps."""
    text = config.get_text_config()
    rules = {name: value for name, value in text.to_dict().items() if name not in NO_RULES}
    # some families have caps on attention that only some implementations heed
    return {**rules, "attn_implementation": text._attn_implementation}
