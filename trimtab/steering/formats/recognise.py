"""Open a steering vector of any kind that is read, told by the first bytes of its file."""

from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.steering.formats import gguf, plain, safetensors
from trimtab.steering.formats.stored import VECTOR_FILE, StoredVector
from trimtab.steering.positions import Positions


def read_any(
    path: Path,
    *,
    hook_point: HookPoint | None = None,
    tensor: str | None = None,
    positions: Positions | None = None,
) -> StoredVector:
    """Return the vector of a file of trimtab's, a GGUF control vector, or a plain tensor.

    Args:
        path: a file, or the folder of an exported vector.
        hook_point: where it acts, where the file does not say; of a GGUF file, which layer's.
        tensor: which tensor of a safetensors file that holds several.
        positions: which positions it acts on; by default what the file says, or `prompt_end`.

    Raises:
        VectorError: nothing there can be read as one vector at one hook point, it is zero, the file
            is a pickle, or it says another hook point.
    """
    file = path / VECTOR_FILE if path.is_dir() else path
    start = _first_bytes(file)
    if start.startswith(plain.PICKLES) and start[8:] != b"{":
        raise plain.refuse_pickle(file)
    stated: HookPoint | None = None
    if start.startswith(b"GGUF"):
        found = gguf.read(file, hook_point)
        stated = found.hook_point
    elif _is_own(file, start):
        found = safetensors.read(file)
        stated = found.hook_point
    else:
        if start.startswith(plain.NPY):
            direction = plain.read_npy(file)
        else:
            direction, stated = plain.read_safetensors(file, tensor)
        if (point := stated or hook_point) is None:
            raise VectorError(
                f"{file} does not say where its vector acts; say it with --hook-point, for "
                "instance --hook-point blocks.15.hook_resid_post"
            )
        found = StoredVector(direction, point, "prompt_end").checked(file)
    if stated is not None and hook_point not in (None, stated):
        raise VectorError(f"{file} says that it acts at {stated}, but you asked for {hook_point}")
    if not found.direction.any():
        raise VectorError(f"{file} holds the zero vector, which does nothing")
    return found if positions is None else replace(found, positions=positions)


def _first_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(9)  # of safetensors, the header's length and its first letter
    except OSError as error:
        raise VectorError(
            f"{file} cannot be read as a steering vector: {error.strerror}"
        ) from error


def _is_own(file: Path, start: bytes) -> bool:
    """Whether it is a safetensors file that trimtab wrote."""
    if start.startswith(plain.NPY):
        return False
    try:
        with safe_open(file, framework="numpy") as opened:
            return (opened.metadata() or {}).get("format") == safetensors.FORMAT
    except (OSError, SafetensorError):
        return False
