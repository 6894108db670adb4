import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert "model: the store has a, you ask for b" in message
    assert "gone: the store has 1, you ask for (nothing)" in message
    assert "added: the store has (nothing), you ask for 2" in message
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
        "tokenizer_sha256",
        "chat_template_sha256",
        "sae_sha256",
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
    with pytest.raises(StoreError, match="'float16' does not exist: auto, float32, bfloat16"):
        fingerprint(tiny_model, tiny_sae, **base, values="float16")  # type: ignore[arg-type]


def test_a_difference_in_any_field_is_refused_by_name(
    store: Store, tmp_path: Path, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    shutil.copytree(store.path, tmp_path / "s")
    header = tmp_path / "s" / "store.json"
    content = json.loads(header.read_bytes())
    assert len(content["fingerprint"]) > 20
    for field, value in content["fingerprint"].items():
        changed = {**content["fingerprint"], field: "something else"}
        header.write_text(json.dumps({**content, "fingerprint": changed}))
        with pytest.raises(StoreError) as error:
            build(tmp_path / "s", [], tiny_model, tiny_sae, progress=False)
        assert f"{field}: the store has something else, you ask for {value}\n" in str(error.value)
