import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from transformers import PhiConfig, PreTrainedTokenizerBase

from trimtab.errors import ModelError
from trimtab.model import dtype as dtype_module
from trimtab.model import language_model
from trimtab.model.default import INSTALL
from trimtab.model.dtype import choose_dtype
from trimtab.model.language_model import LanguageModel, load_model

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(scope="session")
def folder(tiny_model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny-llama")
    tiny_model.module.save_pretrained(path)
    tiny_model.tokenizer.save_pretrained(path)
    return path


def load(name: Path | str, **kwargs: Any) -> LanguageModel:
    return load_model(str(name), **{"dtype": "float32", "device": "cpu", **kwargs})


@pytest.fixture
def own_folder(folder: Path, tmp_path: Path) -> Path:
    """A copy of `folder` that the test may change."""
    return shutil.copytree(folder, tmp_path / "model")


def configure(folder: Path, **changes: object) -> None:
    """Change the model's `config.json`."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_folder_gives_the_model_that_was_saved_there(
    folder: Path, tiny_model: LanguageModel
) -> None:
    loaded = load(folder)
    assert (loaded.d_model, loaded.n_layers, loaded.dtype) == (16, 4, torch.float32)
    assert loaded.device == torch.device("cpu")
    assert not loaded.module.training
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    assert torch.equal(loaded.module(input_ids=IDS).logits, tiny_model.module(input_ids=IDS).logits)
    ours, theirs = loaded.fingerprint(), tiny_model.fingerprint()
    assert ours.pop("model") == str(folder)
    assert theirs.pop("model") == "tiny-llama"
    assert ours == theirs


def test_every_family_survives_the_way_through_a_folder(
    family_model: LanguageModel, tmp_path: Path
) -> None:
    family_model.module.save_pretrained(tmp_path)
    family_model.tokenizer.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    for field in ("model_sha256", "model_config_sha256"):
        assert loaded.fingerprint()[field] == family_model.fingerprint()[field]
    assert loaded.n_layers == 4


def test_loading_is_silent(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(folder)
    assert capfd.readouterr() == ("", "")


def test_one_weight_changes_the_models_hash_alone(folder: Path) -> None:
    before, changed = load(folder), load(folder)
    changed.module.model.layers[3].mlp.down_proj.weight[0, 0] += 1e-3
    different = {
        key for key, value in before.fingerprint().items() if changed.fingerprint()[key] != value
    }
    assert different == {"model_sha256"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rms_norm_eps", 0.01),
        ("hidden_act", "gelu"),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 7.0}),
    ],
)
def test_what_the_weights_are_run_by_is_part_of_the_fingerprint(
    own_folder: Path, name: str, value: object
) -> None:
    before = load(own_folder)
    configure(own_folder, **{name: value})
    after = load(own_folder)
    assert not torch.equal(before.module(input_ids=IDS).logits, after.module(input_ids=IDS).logits)
    assert {
        key for key, value in before.fingerprint().items() if after.fingerprint()[key] != value
    } == {"model_config_sha256"}


def test_names_versions_and_ends_of_generation_are_not_part_of_it(own_folder: Path) -> None:
    before = load(own_folder)
    configure(
        own_folder,
        transformers_version="1.0",
        architectures=["LlamaForCausalLM"],
        dtype="float16",
        use_cache=False,
        eos_token_id=[2, 3],
        pad_token_id=5,
    )
    after = load(own_folder)
    assert torch.equal(before.module(input_ids=IDS).logits, after.module(input_ids=IDS).logits)
    assert after.fingerprint() == before.fingerprint()


def test_the_dtype_is_part_of_the_fingerprint(folder: Path) -> None:
    half = load(folder, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert half.fingerprint()["model_dtype"] == "bfloat16"
    assert half.fingerprint()["model_sha256"] != load(folder).fingerprint()["model_sha256"]


def test_the_tokenizers_hash_heeds_its_rules_and_not_what_it_did_before(folder: Path) -> None:
    model = load(folder)
    before = model.fingerprint()
    model.tokenizer(["a", "a b c d"], padding=True, truncation=True, max_length=3)
    assert model.fingerprint() == before
    model.tokenizer.chat_template += " "
    assert model.fingerprint()["chat_template_sha256"] != before["chat_template_sha256"]
    model.tokenizer.add_tokens(["<new>"])
    assert model.fingerprint()["tokenizer_sha256"] != before["tokenizer_sha256"]


def test_a_tokenizer_without_a_pad_token_pads_with_its_end_token(
    folder: Path, tiny_model: LanguageModel, tmp_path: Path
) -> None:
    model = load(folder)
    model.tokenizer.pad_token = None
    model.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).pad_id == tiny_model.tokenizer.eos_token_id


def test_a_device_map_places_the_model(folder: Path) -> None:
    assert load(folder, device="auto", device_map={"": "cpu"}).device == torch.device("cpu")
    with pytest.raises(ModelError, match="not both"):
        load(folder, device_map="auto")


def test_a_model_can_be_spread_over_what_there_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = Mock(wraps=language_model._load)
    monkeypatch.setattr(language_model, "_load", spread)
    assert load(folder, device="balanced").fingerprint() == load(folder).fingerprint()
    assert [call.args[-1] for call in spread.call_args_list] == ["balanced", None]


def test_a_model_that_a_device_map_could_not_fit_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offloaded = load(folder)
    offloaded.module.model.layers[3].to("meta")  # what accelerate leaves of an offloaded layer
    loaded = (offloaded.module, offloaded.tokenizer, "")
    monkeypatch.setattr("trimtab.model.language_model._load", lambda *_: loaded)
    with pytest.raises(ModelError, match="does not fit"):
        load(folder, device="auto", device_map="auto")


def test_bad_arguments_are_refused_with_the_choices(folder: Path) -> None:
    with pytest.raises(ModelError, match="'int8' is not one of auto, float32, bfloat16, float16"):
        load(folder, dtype="int8")
    with pytest.raises(ModelError, match=r"device 'gpu' cannot be used.*try auto or cpu"):
        load(folder, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="device 'cuda' cannot be used"):
            load(folder, device="cuda")


def test_dtype_auto_takes_the_faster_one_and_float32_when_in_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    seconds = {torch.float32: 1.0, torch.bfloat16: 0.2}
    monkeypatch.setattr(dtype_module, "_matmul_seconds", lambda dtype, _: seconds[dtype])
    assert choose_dtype("auto", cpu) == torch.bfloat16
    for slower in (0.9, 1.0, 7.0):
        seconds[torch.bfloat16] = slower
        assert choose_dtype("auto", cpu) == torch.float32


def test_dtype_auto_is_measured_on_this_machine() -> None:
    assert choose_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)


def test_an_unsupported_architecture_is_refused_before_its_weights_are_looked_for(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    PhiConfig(architectures=["PhiForCausalLM"]).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"PhiForCausalLM \(model_type 'phi'\) is not supported"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "never-heard-of"}')
    with pytest.raises(ModelError, match="never-heard-of"):
        load(tmp_path)


def test_pickled_weights_are_not_read(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save(load(folder).module.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load(tmp_path)


def test_a_folder_or_file_that_holds_no_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=tmp_path.name):
        load(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match=r"not a \.gguf file; give its folder"):
        load(file)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF nothing")
    with pytest.raises(ModelError, match=r"broken\.gguf cannot be loaded"):
        load(broken)


@pytest.mark.parametrize("name", ["./not/here", "/not/here.gguf", "a b"])
def test_a_path_that_does_not_exist_is_refused_as_such(name: str) -> None:
    with pytest.raises(ModelError, match="there is no such file or folder"):
        load(name)


def test_a_missing_default_model_is_answered_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trimtab.model.default.find_spec", lambda _: None)
    with pytest.raises(ModelError) as caught:
        load_model()
    assert str(caught.value) == f"the default model is not installed; run: {INSTALL}"


def test_the_default_model_is_smollm2_with_its_own_chat_template(
    default_model: LanguageModel,
) -> None:
    assert (default_model.name, default_model.revision) == ("SmolLM2-135M-Instruct", "")
    assert (default_model.d_model, default_model.n_layers, default_model.pad_id) == (576, 30, 2)
    assert "<|im_start|>" in str(default_model.tokenizer.chat_template)
    assert default_model.fingerprint()["model_sha256"].startswith("5bf586bf3b11")


def test_the_default_model_speaks_english(default_model: LanguageModel) -> None:
    text = "The capital of France is the city of"
    ids = torch.tensor([default_model.tokenizer(text).input_ids])
    best = default_model.module(input_ids=ids).logits[0, -1].argmax()
    assert default_model.tokenizer.decode(best) == " Paris"
