"""Files of vectors: written, read back equal, and opened without torch."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from safetensors.numpy import save_file

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint, Site
from trimtab.steering.formats import WRITERS, StoredVector, gguf, safetensors
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
