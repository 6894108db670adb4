import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab.errors import StoreError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.store import Store, build
from trimtab.store.fingerprint import check_same, digest, fingerprint

FIELDS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=6)


@given(FIELDS)
def test_digest_is_16_hex_digits_and_heeds_no_order(fields: dict[str, str]) -> None:
    name = digest(fields)
    assert len(name) == 16
    assert int(name, 16) >= 0
    assert digest(dict(reversed(fields.items()))) == name


@given(FIELDS, FIELDS)
def test_fingerprints_are_the_same_only_where_every_field_is(
    a: dict[str, str], b: dict[str, str]
) -> None:
    if a == b:
        check_same("store", a, b)
        assert digest(a) == digest(b)
    else:
        assert digest(a) != digest(b)
        with pytest.raises(StoreError):
            check_same("store", a, b)


def test_a_difference_is_told_field_by_field() -> None:
    old = {"model": "a", "gone": "1", "same": "x"}
    new = {"model": "b", "same": "x", "added": "2"}
    with pytest.raises(StoreError) as error:
        check_same("here", old, new)
    message = str(error.value)
    assert "model: the store has a, you asked for b" in message
    assert "gone: the store has 1, you asked for (nothing)" in message
    assert "added: the store has (nothing), you asked for 2" in message
    assert "same" not in message.replace("same call", "")
    assert "new folder" in message


def test_every_choice_changes_the_fingerprint(tiny_model: LanguageModel, tiny_sae: SAE) -> None:
    base = {
        "hook_point": HookPoint(1, "hook_resid_post"),
        "chat": True,
        "system": None,
        "max_tokens": 64,
    }
    names = {digest(fingerprint(tiny_model, tiny_sae, **base))}  # type: ignore[arg-type]
    others = (
        {"hook_point": HookPoint(2, "hook_resid_post")},
        {"hook_point": HookPoint(1, "hook_mlp_out")},
        {"chat": False},
        {"system": ""},
        {"system": "default"},
        {"max_tokens": 65},
        {"values": "bfloat16"},
    )
    for change in others:
        names.add(digest(fingerprint(tiny_model, tiny_sae, **{**base, **change})))  # type: ignore[arg-type]
    names.add(digest(fingerprint(tiny_model, None, **base)))  # type: ignore[arg-type]
    assert len(names) == len(others) + 2


def test_fingerprint_names_models_weights_and_libraries(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    fields = fingerprint(
        tiny_model,
        tiny_sae,
        hook_point=tiny_sae.hook_point,
        chat=True,
        system=None,
        max_tokens=64,
    )
    assert {
        "model_sha256",
        "model_config_sha256",
        "tokenizer_sha256",
        "chat_template_sha256",
        "sae_sha256",
        "sae_config_sha256",
        "value_dtype",
        "special_tokens",
        "position_0",
        "torch",
        "transformers",
        "sae_lens",
        "store_format",
    } <= set(fields)
    assert "+" not in fields["torch"]
    assert fields["d_sae"] == "48"


def test_values_follow_the_models_dtype_unless_named(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    base = {"hook_point": tiny_sae.hook_point, "chat": True, "system": None, "max_tokens": 64}
    half = replace(tiny_model, module=deepcopy(tiny_model.module).bfloat16())
    for model, values, expected in (
        (tiny_model, "auto", "float32"),
        (half, "auto", "bfloat16"),
        (half, "float32", "float32"),
        (tiny_model, "bfloat16", "bfloat16"),
    ):
        fields = fingerprint(model, tiny_sae, **base, values=values)  # type: ignore[arg-type]
        assert fields["value_dtype"] == expected
    with pytest.raises(StoreError, match="'float16'; choose from auto, float32, bfloat16"):
        fingerprint(tiny_model, tiny_sae, **base, values="float16")  # type: ignore[arg-type]


def changed(module: Any, change: Callable[[Any], object]) -> Any:
    """A copy of a module or tokenizer in which something is different."""
    copy = deepcopy(module)
    change(copy)
    return copy


def another_model(field: str, model: LanguageModel) -> LanguageModel:
    """A model that differs in what one field of the fingerprint names."""

    def module(change: Callable[[Any], object]) -> LanguageModel:
        return replace(model, module=changed(model.module, change))

    def tokenizer(change: Callable[[Any], object]) -> LanguageModel:
        return replace(model, tokenizer=changed(model.tokenizer, change))

    def wider() -> LanguageModel:
        config = LlamaConfig.from_dict({**model.module.config.to_dict(), "hidden_size": 32})
        return replace(model, module=LlamaForCausalLM(config).eval().requires_grad_(False))

    return {
        "model": lambda: replace(model, name="another"),
        "model_revision": lambda: replace(model, revision="another"),
        "model_sha256": lambda: module(lambda copy: copy.lm_head.weight.add_(1)),
        "model_config_sha256": lambda: module(lambda copy: setattr(copy.config, "head_dim", 4)),
        "model_dtype": lambda: module(lambda copy: copy.bfloat16()),
        "tokenizer_sha256": lambda: tokenizer(lambda copy: copy.add_tokens(["<new>"])),
        "chat_template_sha256": lambda: tokenizer(lambda copy: setattr(copy, "chat_template", "")),
        "d_model": wider,
    }[field]()


def another_sae(field: str, sae: SAE) -> SAE:
    """An SAE that differs in what one field of the fingerprint names."""

    def module(change: Callable[[Any], object]) -> SAE:
        return replace(sae, module=changed(sae.module, change))

    return {
        "sae": lambda: replace(sae, spec="another"),
        "sae_hook_point": lambda: replace(sae, hook_point=HookPoint(2, "hook_resid_post")),
        "sae_sha256": lambda: module(lambda copy: copy.b_dec.add_(1)),
        "sae_config_sha256": lambda: module(
            lambda copy: setattr(copy, "cfg", SimpleNamespace(to_dict=lambda: {"k": 3}))
        ),
        "sae_dtype": lambda: module(lambda copy: copy.double()),
        "d_sae": lambda: module(
            lambda copy: setattr(copy, "W_dec", nn.Parameter(copy.W_dec[:40], False))
        ),
    }[field]()


MODEL_FIELDS = (
    "model", "model_revision", "model_sha256", "model_config_sha256", "model_dtype",
    "tokenizer_sha256", "chat_template_sha256", "d_model",
)  # fmt: skip
SAE_FIELDS = ("sae", "sae_hook_point", "sae_sha256", "sae_config_sha256", "sae_dtype", "d_sae")
OPTIONS: dict[str, dict[str, Any]] = {
    "prompt_form": {"chat": False},
    "system_prompt": {"system": "Be brief."},
    "max_tokens": {"max_tokens": 50},
    "value_dtype": {"values": "bfloat16"},
}
LIBRARIES = ("torch", "transformers", "sae_lens")
RULES = ("store_format", "truncation", "special_tokens", "position_0")  # of this version's code


@pytest.mark.parametrize(
    "field", [*MODEL_FIELDS, *SAE_FIELDS, "hook_point", *OPTIONS, *LIBRARIES, *RULES]
)
def test_another_input_is_refused_by_the_field_that_it_changes(
    field: str,
    store: Store,
    tmp_path: Path,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = shutil.copytree(store.path, tmp_path / "s")
    model, sae, options = tiny_model, tiny_sae, OPTIONS.get(field, {})
    if field in MODEL_FIELDS:
        model = another_model(field, tiny_model)
    elif field in SAE_FIELDS:
        sae = another_sae(field, tiny_sae)
    elif field == "hook_point":
        sae = replace(tiny_sae, hook_point=HookPoint(1, "hook_mlp_out"))
    elif field in LIBRARIES:
        monkeypatch.setattr(
            "trimtab.store.fingerprint.version",
            lambda name: "0.1" if name.replace("-", "_") == field else version(name),
        )
    elif field in RULES:  # no input changes these; another version of the code would
        header = json.loads((path / "store.json").read_bytes())
        header["fingerprint"][field] = "another"
        header["fingerprint_id"] = digest(header["fingerprint"])
        (path / "store.json").write_text(json.dumps(header))
    with pytest.raises(StoreError, match=f"\n  {field}: the store has "):
        build(path, [], model, sae, progress=False, **options)


def test_no_field_is_left_out_above(store: Store) -> None:
    walked = {*MODEL_FIELDS, *SAE_FIELDS, "hook_point", *OPTIONS, *LIBRARIES, *RULES}
    assert set(store.fingerprint) == walked
