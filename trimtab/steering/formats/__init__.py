"""File formats of steering vectors: one file each, none of which needs torch.

Formats without a place for a strength get the vector already multiplied, so that strength 1 in the
other program is the calibrated one.
"""

from collections.abc import Callable
from pathlib import Path

from trimtab.steering.formats import gguf, safetensors
from trimtab.steering.formats.stored import StoredVector

WRITERS: dict[str, Callable[[StoredVector, Path], None]] = {
    "gguf": gguf.write,
    "safetensors": safetensors.write,
}

__all__ = ["WRITERS", "StoredVector"]
