"""Files of vectors: written, read back equal, and opened without torch."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint, Site
from trimtab.steering.formats import WRITERS, StoredVector, gguf, safetensors
from trimtab.steering.formats.recognise import read_any
from trimtab.steering.positions import Positions

DIRECTION = np.random.default_rng(0).normal(size=24).astype(np.float32)


def stored(
    layer: int = 7,
    site: Site = "hook_resid_post",
    positions: Positions = "prompt_end",
    multiplier: float = 2.5,
) -> StoredVector:
    return StoredVector(DIRECTION, HookPoint(layer, site), positions, multiplier)


@pytest.mark.parametrize("site", get_args(Site))
@pytest.mark.parametrize("multiplier", [1.0, -0.1, 1e-7, 123.456])
def test_safetensors_gives_back_everything(tmp_path: Path, site: Site, multiplier: float) -> None:
    safetensors.write(stored(0, site, "generated", multiplier), tmp_path / "v")
    found = safetensors.read(tmp_path / "v")
    assert np.array_equal(found.direction, DIRECTION)
    assert found.direction.dtype == np.float32
    assert (found.hook_point, found.positions) == (HookPoint(0, site), "generated")
    assert found.multiplier == multiplier


def test_safetensors_of_other_programs_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    save_file({"direction": DIRECTION}, tmp_path / "bare")
    save_file({"weight": DIRECTION}, tmp_path / "other", metadata={"format": "pt"})
    save_file({"direction": DIRECTION}, tmp_path / "half", metadata={"format": safetensors.FORMAT})
    (tmp_path / "noise").write_bytes(b"noise")
    for name in ("bare", "other", "half", "noise", "missing", "."):
        with pytest.raises(VectorError, match=str(tmp_path)):
            safetensors.read(tmp_path / name)


@pytest.mark.parametrize("multiplier", [1.0, 2.5, -0.3])
def test_gguf_gives_back_the_vector_with_its_multiplier_folded_in(
    tmp_path: Path, multiplier: float
) -> None:
    gguf.write(stored(multiplier=multiplier), tmp_path / "v.gguf")
    found = gguf.read(tmp_path / "v.gguf")
    np.testing.assert_allclose(found.direction, multiplier * DIRECTION, rtol=1e-6)
    assert found.hook_point == HookPoint(7, "hook_resid_post")
    assert found.multiplier == 1.0
    assert found.positions == "all"  # llama.cpp knows no other


def test_gguf_has_the_keys_and_the_tensor_that_llama_cpp_looks_for(tmp_path: Path) -> None:
    gguf.write(stored(), tmp_path / "v.gguf")
    reader = GGUFReader(tmp_path / "v.gguf")
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].types == [GGUFValueType.STRING]
    assert reader.fields["controlvector.layer_count"].types == [GGUFValueType.UINT32]
    assert reader.fields["controlvector.layer_count"].contents() == 7
    (tensor,) = reader.tensors
    assert tensor.name == "direction.7"
    assert tensor.tensor_type == GGMLQuantizationType.F32
    assert tensor.shape.tolist() == [24]


def test_gguf_takes_the_input_of_a_block_as_the_output_of_the_one_before(tmp_path: Path) -> None:
    gguf.write(stored(7, "hook_resid_pre"), tmp_path / "v.gguf")
    assert gguf.read(tmp_path / "v.gguf").hook_point == HookPoint(6, "hook_resid_post")


@pytest.mark.parametrize(
    ("layer", "site"),
    [
        (0, "hook_resid_post"),
        (0, "hook_resid_pre"),
        (1, "hook_resid_pre"),
        (7, "hook_attn_out"),
        (7, "hook_mlp_out"),
    ],
)
def test_gguf_refuses_what_llama_cpp_has_no_place_for(
    tmp_path: Path, layer: int, site: Site
) -> None:
    with pytest.raises(VectorError, match=rf"blocks\.{layer}\.{site}.*safetensors"):
        gguf.write(stored(layer, site), tmp_path / "v.gguf")
    assert not (tmp_path / "v.gguf").exists()


def test_gguf_files_of_other_kinds_are_refused_with_their_path(tmp_path: Path) -> None:
    for name, tensors in (
        ("two", ["direction.1", "direction.2"]),
        ("none", ["token_embd.weight"]),
        ("unnumbered", ["direction.first"]),
    ):
        writer = GGUFWriter(tmp_path / name, "controlvector")
        for tensor in tensors:
            writer.add_tensor(tensor, DIRECTION)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    (tmp_path / "noise").write_bytes(b"noise, and not a little of it")
    (tmp_path / "short").write_bytes(b"GG")
    (tmp_path / "empty").write_bytes(b"")
    names = ("two", "none", "unnumbered", "noise", "short", "empty", "missing", ".")
    for name in names:
        with pytest.raises(VectorError, match=str(tmp_path)):
            gguf.read(tmp_path / name)


def test_a_gguf_file_that_was_cut_short_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    gguf.write(stored(), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(VectorError, match=str(tmp_path / "cut")):
            gguf.read(tmp_path / "cut")


NAN = np.where(np.arange(24) == 5, np.float32("nan"), DIRECTION)


@pytest.mark.parametrize(
    ("direction", "multiplier", "told"),
    [
        (torch.from_numpy(DIRECTION).bfloat16(), "1.0", "bfloat16|bf16"),
        (torch.from_numpy(DIRECTION).half(), "1.0", "float16 of shape"),
        (torch.ones(2, 16), "1.0", r"shape \(2, 16\)"),
        (torch.from_numpy(NAN), "1.0", "NaN"),
        (torch.from_numpy(DIRECTION), "nan", "NaN"),
        (torch.from_numpy(DIRECTION), "inf", "infinity"),
        (torch.from_numpy(DIRECTION), "much", "metadata"),
    ],
)
def test_an_own_file_that_was_changed_is_refused_by_its_name(
    tmp_path: Path, direction: torch.Tensor, multiplier: str, told: str
) -> None:
    safetensors.write(stored(), tmp_path / "v")
    with safe_open(tmp_path / "v", framework="numpy") as opened:
        metadata = opened.metadata()
    save_torch(
        {"direction": direction}, tmp_path / "v", metadata=metadata | {"multiplier": multiplier}
    )
    for read in (safetensors.read, read_any):
        with pytest.raises(VectorError, match=f"{tmp_path / 'v'} .*({told})"):
            read(tmp_path / "v")


@pytest.mark.parametrize(("key", "value"), [("hook_point", "blocks"), ("positions", "some")])
def test_an_own_file_whose_place_was_damaged_is_refused_by_its_name(
    tmp_path: Path, key: str, value: str
) -> None:
    safetensors.write(stored(), tmp_path / "v")
    with safe_open(tmp_path / "v", framework="numpy") as opened:
        metadata = opened.metadata()
    save_file({"direction": DIRECTION}, tmp_path / "v", metadata=metadata | {key: value})
    with pytest.raises(VectorError, match=f"{tmp_path / 'v'} has damaged metadata.*{value}"):
        safetensors.read(tmp_path / "v")


def test_no_file_gives_a_vector_that_is_not_finite(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", NAN)
    np.save(tmp_path / "large.npy", 1e300 * DIRECTION.astype(np.float64))
    gguf.write(StoredVector(NAN, HookPoint(7, "hook_resid_post"), "all"), tmp_path / "v.gguf")
    for name in ("v.npy", "large.npy", "v.gguf"):
        with pytest.raises(VectorError, match=f"{tmp_path / name} holds a NaN or an infinity"):
            read_any(tmp_path / name, hook_point=HookPoint(7, "hook_resid_post"))


NO_TORCH = """
import sys
from pathlib import Path
from trimtab.steering.formats import WRITERS, gguf, safetensors
vector = safetensors.read(Path(sys.argv[1]) / "v")
for name, write in WRITERS.items():
    write(vector, Path(sys.argv[1]) / name)
gguf.read(Path(sys.argv[1]) / "gguf")
print(sorted({"torch", "sae_lens", "transformers"} & set(sys.modules)))
"""


def test_no_format_needs_torch(tmp_path: Path) -> None:
    assert set(WRITERS) == {"gguf", "safetensors"}
    safetensors.write(stored(), tmp_path / "v")
    result = subprocess.run(
        [sys.executable, "-c", NO_TORCH, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
