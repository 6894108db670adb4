"""GGUF control vectors, as llama.cpp's `--control-vector` loads them.

Architecture `controlvector`, keys `controlvector.model_hint` and `controlvector.layer_count`, one
float32 tensor `direction.<layer>`. llama.cpp adds `direction.L` to the output of block L counted
from 0, the same place as `blocks.L.hook_resid_post`, and accepts no direction for block 0. It adds
at every position, the prompt's included, whatever `positions` says here.
"""

from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.steering.formats.stored import StoredVector

ARCHITECTURE = "controlvector"


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


def read(path: Path) -> StoredVector:
    """Return the vector of a control-vector file that holds exactly one layer.

    Raises:
        VectorError: the file is no control vector, or holds several layers.
    """
    try:
        reader = GGUFReader(path)
    except (OSError, ValueError) as error:
        raise VectorError(f"{path} is no GGUF file: {error}") from error
    directions = [t for t in reader.tensors if t.name.startswith("direction.")]
    if len(directions) != 1:
        raise VectorError(
            f"{path} holds {len(directions)} directions; one vector at one layer is supported"
        )
    layer = directions[0].name.removeprefix("direction.")
    if not layer.isdecimal():
        raise VectorError(f"{path} holds a direction for {layer!r}, which is no layer's number")
    direction = np.array(directions[0].data, dtype=np.float32)
    return StoredVector(direction, HookPoint(int(layer), "hook_resid_post"), "all")
