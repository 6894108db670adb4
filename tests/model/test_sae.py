import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trimtab.errors import ModelError
from trimtab.model.default import default_sae_folder
from trimtab.model.features.descriptions import read_descriptions
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE, SaeModelWarning, load_sae

CONFIG: dict[str, Any] = {
    "architecture": "jumprelu",
    "d_in": 16,
    "d_sae": 48,
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "metadata": {
        "sae_lens_version": "6.54.12",
        "model_name": "tiny-llama",
        "hook_name": "blocks.1.hook_resid_post",
        "hook_head_index": None,
    },
}


@pytest.fixture
def folder(tiny_sae: SAE, tmp_path: Path) -> Path:
    """`tiny_sae` as a folder of sae_lens, its weights in float16 as the packaged one's are."""
    weights = {name: tensor.half() for name, tensor in tiny_sae.module.state_dict().items()}
    save_file(weights, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps(CONFIG))
    return tmp_path


def configure(folder: Path, **changes: Any) -> None:
    """Change `cfg.json`; names that are not its own belong to its metadata."""
    config = json.loads((folder / "cfg.json").read_text())
    for name, value in changes.items():
        (config["metadata"] if name in config["metadata"] else config)[name] = value
    (folder / "cfg.json").write_text(json.dumps(config))


def load(spec: Path | str, model: LanguageModel) -> SAE:
    sae = load_sae(str(spec), model)
    assert sae is not None
    return sae


def test_a_folder_of_float16_weights_runs_in_float32_as_plain_torch_would(
    folder: Path, tiny_model: LanguageModel
) -> None:
    sae = load(folder, tiny_model)
    assert (sae.d_in, sae.d_sae, sae.dtype) == (16, 48, torch.float32)
    assert sae.hook_point == HookPoint(1, "hook_resid_post")
    w = {k: v.float() for k, v in load_file(folder / "sae_weights.safetensors").items()}
    x = 3 * torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    pre = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    features = torch.where(pre > w["threshold"], pre, 0.0)
    assert 0 < (features > 0).sum() < features.numel()
    torch.testing.assert_close(sae.encode(x), features)
    torch.testing.assert_close(sae.decode(features), features @ w["W_dec"] + w["b_dec"])
    assert torch.equal(sae.W_dec, w["W_dec"])


def test_encoding_gives_the_same_bits_again_and_takes_other_dtypes(
    folder: Path, tiny_model: LanguageModel
) -> None:
    sae = load(folder, tiny_model)
    x = torch.randn(7, 16)
    assert torch.equal(sae.encode(x), sae.encode(x))
    assert sae.encode(x.bfloat16()).dtype == torch.float32
    assert torch.equal(sae.encode(x.bfloat16()), sae.encode(x.bfloat16().float()))


def test_none_is_no_sae(tiny_model: LanguageModel) -> None:
    assert load_sae("none", tiny_model) is None


def test_the_fingerprint_heeds_every_weight(folder: Path, tiny_model: LanguageModel) -> None:
    before = load(folder, tiny_model).fingerprint()
    assert before["sae"] == str(folder)
    assert before["sae_hook_point"] == "blocks.1.hook_resid_post"
    assert load(folder, tiny_model).fingerprint() == before
    weights = load_file(folder / "sae_weights.safetensors")
    weights["threshold"][0] += 0.25
    save_file(weights, folder / "sae_weights.safetensors")
    assert load(folder, tiny_model).fingerprint()["sae_sha256"] != before["sae_sha256"]


def test_the_fingerprint_heeds_what_the_weights_are_run_by_and_not_where_they_lie(
    folder: Path, tiny_model: LanguageModel
) -> None:
    before = load(folder, tiny_model)
    configure(folder, sae_lens_version="6.54.11", device="meta", dtype="float16")
    assert load(folder, tiny_model).fingerprint() == before.fingerprint()
    configure(folder, apply_b_dec_to_input=False)
    after = load(folder, tiny_model)
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(before.encode(x) > 0, after.encode(x) > 0)
    assert {
        name for name, value in before.fingerprint().items() if after.fingerprint()[name] != value
    } == {"sae_config_sha256"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"d_in": 32}, r"32 wide and model tiny-llama 16"),
        ({"hook_name": "blocks.1.attn.hook_z"}, r"hook_resid_pre, .*hook_resid_post"),
        ({"hook_name": "blocks.4.hook_resid_post"}, r"4 layers, 0 to 3"),
        ({"hook_name": None}, r"'None' is not supported"),
        ({"hook_head_index": 2}, r"single attention head"),
        ({"normalize_activations": "layer_norm"}, r"each token separately.*not linear"),
        ({"normalize_activations": "constant_norm_rescale"}, r"each token separately"),
        ({"normalize_activations": "expected_average_only_in"}, r"no factor to fold in"),
        ({"architecture": "transcoder"}, r"is a transcoder"),
        ({"architecture": "temporal"}, r"is a temporal"),
        ({"architecture": "never-heard-of"}, r"is a never-heard-of"),
        ({"d_sae": 47}, r"cannot be loaded.*"),
    ],
)
def test_an_sae_that_does_not_fit_is_refused_with_the_reason(
    folder: Path, tiny_model: LanguageModel, changes: dict[str, Any], reason: str
) -> None:
    configure(folder, **changes)
    with pytest.raises(ModelError, match=reason):
        load(folder, tiny_model)


def test_a_damaged_folder_is_refused_by_name(folder: Path, tiny_model: LanguageModel) -> None:
    (folder / "sae_weights.safetensors").write_bytes(b"\x80\x04]\x94.")
    with pytest.raises(ModelError, match=folder.name):
        load(folder, tiny_model)
    (folder / "sae_weights.safetensors").unlink()
    with pytest.raises(ModelError, match=folder.name):
        load(folder, tiny_model)
    (folder / "cfg.json").write_text("{")
    with pytest.raises(ModelError, match=folder.name):
        load(folder, tiny_model)


def test_a_decoder_that_scales_by_norms_is_folded_into_plain_directions(
    folder: Path, tiny_model: LanguageModel
) -> None:
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    torch.manual_seed(0)
    original = TopKSAE(TopKSAEConfig(d_in=16, d_sae=48, k=4, rescale_acts_by_decoder_norm=True))
    original.W_dec.data *= torch.linspace(0.5, 2, 48)[:, None]
    shutil.rmtree(folder)
    original.save_model(folder)
    configure(folder, metadata=CONFIG["metadata"])
    sae = load(folder, tiny_model)
    x = torch.randn(5, 16)
    torch.testing.assert_close(sae.decode(sae.encode(x)), original(x).detach())


@pytest.mark.parametrize(
    ("trained_on", "used_with"),
    [
        ("gemma-2-2b", "google/gemma-2-2b-it"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("tiny-llama", "/models/tiny-llama-chat.Q4_1.gguf"),
    ],
)
def test_an_sae_of_the_base_model_warns_on_its_chat_model(
    folder: Path, tiny_model: LanguageModel, trained_on: str, used_with: str
) -> None:
    configure(folder, model_name=trained_on)
    with pytest.warns(SaeModelWarning, match=f"trained on {trained_on}.*{used_with}"):
        load(folder, replace(tiny_model, name=used_with))


@pytest.mark.parametrize(
    ("trained_on", "used_with"),
    [
        ("gemma-2-2b", "google/gemma-2-2b"),
        ("gpt2-small", "openai-community/gpt2"),
        ("tiny-llama", "/models/Tiny-Llama/"),
        ("tiny-llama", "/models/tiny-llama.Q4_1.gguf"),
        ("tiny-llama", "/models/tiny-llama-Q8_0.gguf"),
        (None, "anything"),
    ],
)
def test_other_names_of_the_same_model_do_not_warn(
    folder: Path, tiny_model: LanguageModel, trained_on: str | None, used_with: str
) -> None:
    configure(folder, model_name=trained_on)
    load(folder, replace(tiny_model, name=used_with))


def test_a_spec_that_is_neither_folder_nor_release_is_refused_with_the_choices(
    tiny_model: LanguageModel,
) -> None:
    with pytest.raises(ModelError, match=r"neither a folder here nor of the form release/id"):
        load("nothing", tiny_model)
    with pytest.raises(ModelError, match=r"no such folder here.*knows no release 'runs'"):
        load("runs/my/sae", tiny_model)
    with pytest.raises(ModelError, match=r"no id 'blocks\.99'; it has blocks\.0"):
        load("gpt2-small-res-jb/blocks.99", tiny_model)


RELEASE = ("jbloom/GPT2-Small-SAEs-Reformatted", "blocks.1.hook_resid_pre")


def test_a_release_of_sae_lens_is_downloaded_and_loaded(
    hub: Any, folder: Path, tiny_model: LanguageModel
) -> None:
    configure(folder, model_name="gpt2-small", hook_name=RELEASE[1])
    hub.repos[RELEASE[0]] = {f"{RELEASE[1]}/{f.name}": f.read_bytes() for f in folder.iterdir()}
    gpt2 = replace(tiny_model, name="gpt2")
    sae = load(f"gpt2-small-res-jb/{RELEASE[1]}", gpt2)
    assert sae.hook_point == HookPoint(1, "hook_resid_pre")
    assert torch.equal(sae.W_dec, load_file(folder / "sae_weights.safetensors")["W_dec"].float())


def test_a_release_that_does_not_fit_costs_no_download_of_weights(
    hub: Any, folder: Path, tiny_model: LanguageModel
) -> None:
    configure(folder, d_in=768)
    hub.repos[RELEASE[0]] = {f"{RELEASE[1]}/{f.name}": f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(ModelError, match="768 wide"):
        load(f"gpt2-small-res-jb/{RELEASE[1]}", tiny_model)
    assert hub.served == [f"{RELEASE[1]}/cfg.json"]


def test_a_hub_out_of_reach_is_said_so(hub: Any, tiny_model: LanguageModel) -> None:
    hub.down = True
    with pytest.raises(ModelError, match=r"gpt2-small-res-jb.*cannot be reached"):
        load(f"gpt2-small-res-jb/{RELEASE[1]}", tiny_model)


PICKLED = "sae_bench_pythia70m_sweep_standard_ctx128_0712/blocks.3.hook_resid_post__trainer_10"


class Payload:
    """Unpickling it makes a folder: what a stranger's file could do to whoever loads it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.target),))


def serve_pickle(hub: Any, content: object, tmp_path: Path) -> None:
    """A release that sae_lens reads with `torch.load`."""
    trainer = {"layer": 1, "activation_dim": 16, "dict_size": 48, "dict_class": "AutoEncoder"}
    config = {"trainer": {**trainer, "lm_name": "tiny-llama"}, "buffer": {"ctx_len": 128}}
    torch.save(content, tmp_path / "ae.pt")
    path = "pythia70m_sweep_standard_ctx128_0712/resid_post_layer_3/trainer_10"
    hub.repos["canrager/lm_sae"] = {
        f"{path}/config.json": json.dumps(config).encode(),
        f"{path}/ae.pt": (tmp_path / "ae.pt").read_bytes(),
    }


def test_a_release_of_tensors_in_a_pickle_is_loaded(
    hub: Any, tiny_model: LanguageModel, tmp_path: Path
) -> None:
    w_enc = torch.randn(48, 16)
    tensors: dict[str, Tensor] = {
        "encoder.weight": w_enc,
        "encoder.bias": torch.zeros(48),
        "decoder.weight": w_enc.T.clone(),
        "bias": torch.zeros(16),
    }
    serve_pickle(hub, tensors, tmp_path)
    assert torch.equal(load(PICKLED, tiny_model).W_dec, w_enc)


@pytest.mark.parametrize("asked_otherwise", [False, True])
def test_a_pickle_with_code_is_refused_and_not_run(
    hub: Any,
    tiny_model: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked_otherwise: bool,
) -> None:
    target = tmp_path / "pwned"
    serve_pickle(hub, {"encoder.weight": Payload(target)}, tmp_path)
    if asked_otherwise:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    else:
        # torch before 2.6 runs a pickle's code unless it is told not to
        plain = torch.load
        monkeypatch.setattr(
            torch, "load", lambda *a, **k: plain(*a, **{"weights_only": False, **k})
        )
    before = dict(os.environ)
    with pytest.raises(ModelError, match=r"pickled objects.*can run code"):
        load(PICKLED, tiny_model)
    assert not target.exists()
    assert dict(os.environ) == before


def test_the_packaged_sae_is_small_and_says_where_it_comes_from() -> None:
    files = {file.name: file.stat().st_size for file in default_sae_folder().iterdir()}
    assert set(files) == {"cfg.json", "card.json", "sae_weights.safetensors", "features.parquet"}
    assert sum(files.values()) < 25_000_000
    card = json.loads((default_sae_folder() / "card.json").read_text())
    assert card["training"]["hook_point"] == str(HookPoint(15, "hook_resid_post"))
    assert card["texts"] and card["evaluation"] and card["behavior"]


def test_every_feature_of_the_packaged_sae_is_described() -> None:
    described = read_descriptions(default_sae_folder() / "features.parquet", 9216)
    assert described["feature"].to_list() == list(range(9216))
    assert described.filter(pl.col("label").str.len_chars() == 0).is_empty()
    assert (
        described.filter(pl.col("contexts").list.len() == 0).height < 300
    )  # they fire on what is not quoted
    quoted = described["contexts"].explode().struct.field("source").unique()
    licensed = {"english-novels", "factbook", "openstax", "gpteacher"}
    assert set(quoted.drop_nulls()) <= licensed  # public domain, CC-BY or MIT


def test_the_packaged_sae_refuses_another_model(tiny_model: LanguageModel) -> None:
    with pytest.raises(ModelError, match=r"'default' is 576 wide.*|30|4 layers"):
        load("default", tiny_model)


def test_the_packaged_sae_explains_the_default_models_residual(
    default_model: LanguageModel, default_sae: SAE
) -> None:
    text = (
        "The town lies on the river and has had a market since the year 1209. Its church was "
        "rebuilt after the great fire, and most of the houses around the square are of that time."
    )
    ids = torch.tensor([default_model.tokenizer(text).input_ids])
    point = default_sae.hook_point
    x = residuals(default_model, ids, None, [point])[point][0]
    x = x[x.norm(dim=-1) < 600]  # the attention sinks that it was not trained on
    features = default_sae.encode(x)
    assert features.shape == (len(x), default_sae.d_sae)
    assert torch.equal(features, default_sae.encode(x))
    ours = default_sae.decode(features)
    torch.testing.assert_close(ours, default_sae.module.decode(features))  # type: ignore[operator]
    unexplained = (x - ours).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert unexplained < 0.25  # of 0.16 on encyclopedia text
    assert 30 < (features > 0).float().sum(dim=-1).mean() < 80
