"""A plain tensor from any other program: safetensors without trimtab's metadata, or NumPy's .npy.

Such a file says little or nothing of where its vector acts. Nothing here unpickles: a `.npy` file
of objects is refused, and so is every file of `torch.save`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open

from trimtab.errors import ModelError, VectorError
from trimtab.model.hook_points import HookPoint, parse_hook_point

NPY = b"\x93NUMPY"
PICKLES = (b"PK\x03\x04", b"\x80")  # the archive of torch.save, and a bare pickle


def read_npy(path: Path) -> NDArray[np.float32]:
    """Return the vector of a `.npy` file, `(d_model,)`.

    Raises:
        VectorError: it is damaged, holds objects, or is no vector.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise VectorError(f"{path} cannot be read as a tensor: {error}") from error
    return flat(array, str(path))


def read_safetensors(
    path: Path, tensor: str | None
) -> tuple[NDArray[np.float32], HookPoint | None]:
    """Return one tensor of a safetensors file, `(d_model,)`, and the hook point of its metadata.

    Args:
        path: the file.
        tensor: which one; None where there is only one.

    Raises:
        VectorError: the file cannot be read, has not that tensor, or it is no vector.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            stated = (file.metadata() or {}).get("hook_point")
            names = sorted(file.keys())
            name = tensor or (names[0] if len(names) == 1 else None)
            if name is None or name not in names:
                asked = f"no tensor {tensor!r}" if tensor else f"{len(names)} tensors"
                raise VectorError(
                    f"{path} holds {asked}; name one of its tensors ({_some(names)}) with --tensor"
                )
            widened = file.get_slice(name).get_dtype() == "BF16"
            array = _bfloat16(path, name) if widened else file.get_tensor(name)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise VectorError(
            f"{path} cannot be read as a steering vector ({error}); safetensors, GGUF control "
            "vectors and .npy files are read"
        ) from error
    try:
        point = None if stated is None else parse_hook_point(stated)
    except ModelError as error:
        raise VectorError(f"{path}: {error}") from error
    return flat(array, f"tensor {name!r} of {path}"), point


def flat(array: NDArray[np.generic], what: str) -> NDArray[np.float32]:
    """Return an array with one dimension that is not 1 as a vector, `(d_model,)` float32.

    Raises:
        VectorError: it has another shape, or is not of real numbers.
    """
    if array.size < 2 or array.squeeze().ndim != 1:
        raise VectorError(
            f"{what} has shape {array.shape}; expected one vector, so save the row of one layer"
        )
    if array.dtype.kind not in "fiu":
        raise VectorError(f"{what} is of type {array.dtype}; a vector must consist of real numbers")
    with np.errstate(over="ignore"):  # what is too large for float32 is told as an infinity
        return np.ascontiguousarray(array.squeeze(), dtype=np.float32)


def refuse_pickle(path: Path) -> VectorError:
    """Return the error for a file of `torch.save`, with the way out."""
    return VectorError(
        f"{path} is a pickle or an archive of torch.save, which can run code when it is read, so "
        "trimtab does not read it. If you trust it, save the tensor as safetensors first: "
        "safetensors.torch.save_file({'direction': torch.load(PATH, weights_only=True)}, NEW_PATH)"
    )


def _bfloat16(path: Path, name: str) -> NDArray[np.float32]:
    """Widen a tensor that NumPy has no type for: its bits are the upper half of a float32's."""
    stored = dict(deserialize(path.read_bytes()))[name]  # type: ignore[no-untyped-call]
    bits = np.frombuffer(stored["data"], dtype="<u2").astype(np.uint32) << 16
    return bits.view(np.float32).reshape(stored["shape"])


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
