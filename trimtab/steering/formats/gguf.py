"""GGUF control vectors, as llama.cpp's `--control-vector` loads them.

Architecture `controlvector`, keys `controlvector.model_hint` and `controlvector.layer_count`, one
float32 tensor `direction.<layer>`. llama.cpp adds `direction.L` to the output of block L counted
from 0, the same place as `blocks.L.hook_resid_post`, and accepts no direction for block 0. It adds
at every position, the prompt's included, whatever `positions` says here.
"""

from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.steering.formats.plain import flat
from trimtab.steering.formats.stored import StoredVector

ARCHITECTURE = "controlvector"
PREFIX = "direction."


def write(vector: StoredVector, path: Path) -> None:
    """Write the direction times its multiplier.

    Raises:
        VectorError: llama.cpp has no such place: another site, or the output of block 0.
    """
    point = vector.hook_point
    if point.site == "hook_resid_pre" and point.layer > 1:
        point = HookPoint(point.layer - 1, "hook_resid_post")
    if point.site != "hook_resid_post" or point.layer == 0:
        raise VectorError(
            f"a GGUF control vector acts on the output of blocks 1 and up; {vector.hook_point} has "
            "no counterpart there: export as safetensors"
        )
    writer = GGUFWriter(path, ARCHITECTURE)
    writer.add_key_value(f"{ARCHITECTURE}.model_hint", "", GGUFValueType.STRING)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", point.layer)
    writer.add_tensor(
        f"direction.{point.layer}",
        np.ascontiguousarray(vector.multiplier * vector.direction, dtype=np.float32),
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path, hook_point: HookPoint | None = None) -> StoredVector:
    """Return the vector of a control-vector file, or of one layer of it.

    Args:
        path: the file.
        hook_point: the output of which block; None where the file holds one layer only.

    Raises:
        VectorError: the file is no control vector, has not that layer, or holds several.
    """
    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError, OverflowError) as error:
        # Of a file that was cut short the reader says no more than which index it lacks.
        raise VectorError(f"{path} is not a GGUF file, or is damaged: {error}") from error
    directions = {
        t.name.removeprefix(PREFIX): t for t in reader.tensors if t.name.startswith(PREFIX)
    }
    if unnumbered := [layer for layer in directions if not layer.isdecimal()]:
        raise VectorError(
            f"{path} holds a direction for {unnumbered[0]!r}, which is not a layer number"
        )
    points = {HookPoint(int(layer), "hook_resid_post"): layer for layer in directions}
    if len(points) > 1 and hook_point not in points:
        some = ", ".join(str(point) for point in sorted(points))
        raise VectorError(
            f"{path} holds {len(points)} directions; choose one with --hook-point: {some}"
        )
    if not points:
        raise VectorError(f"{path} holds no direction, so it is not a control vector")
    point = next(iter(points)) if len(points) == 1 or hook_point is None else hook_point
    tensor = directions[points[point]]
    try:
        direction = dequantize(tensor.data, tensor.tensor_type)
    except (NotImplementedError, ValueError) as error:
        raise VectorError(f"{path} is quantised in a way that cannot be read: {error}") from error
    found = flat(np.array(direction), f"tensor {tensor.name!r} of {path}")
    return StoredVector(found, point, "all").checked(path)
