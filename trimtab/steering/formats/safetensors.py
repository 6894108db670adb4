"""safetensors with everything that is needed to apply the vector in the file's own metadata.

One tensor, `direction` `(d_model,)` float32, and string metadata: `format`, `hook_point`,
`layer_convention`, `operation`, `positions` and `multiplier` (the calibrated one; the direction is
stored before it). No pickle.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trimtab.errors import ModelError, VectorError
from trimtab.model.hook_points import parse_hook_point
from trimtab.steering.formats.stored import StoredVector
from trimtab.steering.positions import check_positions

FORMAT = "trimtab-vector-1"


def write(vector: StoredVector, path: Path) -> None:
    """Write a vector and its calibrated multiplier."""
    metadata = {
        "format": FORMAT,
        "hook_point": str(vector.hook_point),
        "layer_convention": "layers count from 0, embeddings not counted",
        "operation": "add",
        "positions": vector.positions,
        "multiplier": repr(float(vector.multiplier)),
    }
    save_file({"direction": vector.direction}, path, metadata=metadata)


def read(path: Path) -> StoredVector:
    """Return the vector of a file that `write` wrote.

    Raises:
        VectorError: the file is missing, damaged, or not one of trimtab's.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            direction = file.get_tensor("direction")
    except (OSError, SafetensorError, TypeError) as error:  # NumPy has no bfloat16
        raise VectorError(f"{path} cannot be read as a steering vector: {error}") from error
    if metadata.get("format") != FORMAT:
        raise VectorError(
            f"{path} has no trimtab metadata (format is {metadata.get('format')!r}, not {FORMAT}); "
            "build the vector by hand: SteeringVector(direction, parse_hook_point(...))"
        )
    try:
        found = StoredVector(
            direction,
            parse_hook_point(metadata["hook_point"]),
            check_positions(metadata["positions"]),
            float(metadata["multiplier"]),
        )
    except (KeyError, ValueError, ModelError, VectorError) as error:
        raise VectorError(f"{path} has damaged metadata: {error!r}") from error
    return found.checked(path)
