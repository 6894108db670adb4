"""Vectors of other programs: told by their bytes, never unpickled, refused with a way out."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.steering.formats import StoredVector, gguf, safetensors
from trimtab.steering.formats.recognise import read_any
from trimtab.steering.formats.stored import VECTOR_FILE

DIRECTION = np.random.default_rng(0).normal(size=64).astype(np.float32)
POINT = HookPoint(7, "hook_resid_post")


def control_vector(path: Path, layers: dict[str, np.ndarray], kind: GGMLQuantizationType) -> None:
    writer = GGUFWriter(path, "controlvector")
    for layer, direction in layers.items():
        writer.add_tensor(f"direction.{layer}", quantize(direction, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_vector_of_trimtabs_needs_nothing_said(tmp_path: Path) -> None:
    stored = StoredVector(DIRECTION, POINT, "generated", 2.5)
    safetensors.write(stored, tmp_path / VECTOR_FILE)
    for path in (tmp_path, tmp_path / VECTOR_FILE):
        found = read_any(path)
        assert np.array_equal(found.direction, DIRECTION)
        assert (found.hook_point, found.positions, found.multiplier) == (POINT, "generated", 2.5)
    assert read_any(tmp_path, positions="all").positions == "all"


def test_a_control_vector_is_told_by_its_bytes_whatever_it_is_called(tmp_path: Path) -> None:
    gguf.write(StoredVector(DIRECTION, POINT, "all", 2.0), tmp_path / "vector.bin")
    found = read_any(tmp_path / "vector.bin")
    np.testing.assert_allclose(found.direction, 2 * DIRECTION, rtol=1e-6)
    assert (found.hook_point, found.positions) == (POINT, "all")


def test_of_a_control_vector_with_several_layers_one_is_named(tmp_path: Path) -> None:
    layers = {str(layer): DIRECTION * layer for layer in (3, 7, 11)}
    control_vector(tmp_path / "v.gguf", layers, GGMLQuantizationType.F32)
    found = read_any(tmp_path / "v.gguf", hook_point=POINT)
    np.testing.assert_allclose(found.direction, 7 * DIRECTION)
    assert found.hook_point == POINT
    for point in (None, HookPoint(4, "hook_resid_post")):
        with pytest.raises(VectorError, match=r"holds 3 directions.*blocks\.11\.hook_resid_post"):
            read_any(tmp_path / "v.gguf", hook_point=point)


@pytest.mark.parametrize(
    ("kind", "error"), [(GGMLQuantizationType.F16, 1e-3), (GGMLQuantizationType.Q8_0, 0.02)]
)
def test_a_quantised_control_vector_is_dequantised(
    tmp_path: Path, kind: GGMLQuantizationType, error: float
) -> None:
    control_vector(tmp_path / "v.gguf", {"7": DIRECTION}, kind)
    found = read_any(tmp_path / "v.gguf").direction
    assert found.dtype == np.float32
    assert np.abs(found - DIRECTION).max() <= error * np.abs(DIRECTION).max()


@pytest.mark.parametrize("shape", [(64,), (1, 64), (64, 1)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_plain_array_is_read_where_it_is_said_to_act(
    tmp_path: Path, shape: tuple[int, ...], dtype: type
) -> None:
    np.save(tmp_path / "v.npy", DIRECTION.astype(dtype).reshape(shape))
    found = read_any(tmp_path / "v.npy", hook_point=POINT)
    np.testing.assert_allclose(found.direction, DIRECTION, rtol=2e-3)
    assert found.direction.dtype == np.float32
    assert (found.hook_point, found.positions, found.multiplier) == (POINT, "prompt_end", 1.0)


def test_a_plain_tensor_may_say_itself_where_it_acts(tmp_path: Path) -> None:
    save_file({"w": DIRECTION}, tmp_path / "v", metadata={"hook_point": str(POINT)})
    assert read_any(tmp_path / "v").hook_point == POINT
    with pytest.raises(VectorError, match=r"acts at blocks\.7.*you asked for blocks\.8"):
        read_any(tmp_path / "v", hook_point=HookPoint(8, "hook_resid_post"))


def test_a_tensor_of_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    exact = torch.from_numpy(DIRECTION).bfloat16()
    save_torch({"w": exact}, tmp_path / "v.safetensors")
    found = read_any(tmp_path / "v.safetensors", hook_point=POINT).direction
    assert np.array_equal(found, exact.float().numpy())


def test_of_several_tensors_one_is_named(tmp_path: Path) -> None:
    save_file({"layer_3": DIRECTION, "layer_7": 2 * DIRECTION}, tmp_path / "v")
    found = read_any(tmp_path / "v", hook_point=POINT, tensor="layer_7")
    np.testing.assert_allclose(found.direction, 2 * DIRECTION)
    for tensor in (None, "layer_9"):
        with pytest.raises(VectorError, match=r"--tensor"):
            read_any(tmp_path / "v", hook_point=POINT, tensor=tensor)


def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(tmp_path: Path) -> None:
    for length in range(60, 200):
        save_file({"w" * length: DIRECTION}, tmp_path / "v")
        assert np.array_equal(read_any(tmp_path / "v", hook_point=POINT).direction, DIRECTION)


def test_a_file_that_says_nothing_asks_for_the_hook_point(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", DIRECTION)
    save_file({"w": DIRECTION}, tmp_path / "v.safetensors")
    for name in ("v.npy", "v.safetensors"):
        with pytest.raises(VectorError, match=rf"{name} does not say .* --hook-point"):
            read_any(tmp_path / name)


class Harmful:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    mark = tmp_path / "was-unpickled"
    torch.save({"v": torch.from_numpy(DIRECTION)}, tmp_path / "v.pt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Harmful(mark)))
    with zipfile.ZipFile(tmp_path / "harmful.pt", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Harmful(mark)))
    for name in ("v.pt", "bare.pkl", "harmful.pt"):
        with pytest.raises(VectorError, match=r"weights_only=True.*NEW_PATH"):
            read_any(tmp_path / name, hook_point=POINT)
    objects = io.BytesIO()
    np.save(objects, np.array([Harmful(mark)] * 3, dtype=object), allow_pickle=True)
    (tmp_path / "objects.npy").write_bytes(objects.getvalue())
    with pytest.raises(VectorError, match=r"objects\.npy"):
        read_any(tmp_path / "objects.npy", hook_point=POINT)
    assert not mark.exists()


def test_what_is_no_vector_is_refused_with_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "matrix.npy", np.ones((3, 64)))
    np.save(tmp_path / "one.npy", np.ones(1))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.save(tmp_path / "zero.npy", np.zeros(64))
    (tmp_path / "short.npy").write_bytes((tmp_path / "zero.npy").read_bytes()[:40])
    (tmp_path / "noise").write_bytes(b"noise, and not a little of it")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    save_file({}, tmp_path / "nothing.safetensors")
    names = [file.name for file in tmp_path.iterdir()]
    for name in (*names, "missing"):
        with pytest.raises(VectorError, match=str(tmp_path / name)):
            read_any(tmp_path / name, hook_point=POINT)
