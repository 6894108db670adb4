"""Matrices that stay on their device, in this process, for whoever asks for them again.

Each device has a budget in bytes; what was not used for longest makes room. Stores, rankers and
trials of a search share the one cache, because a key names content and not a store's place.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from trimtab.store.reading.matrices import Differences

Key = tuple[Hashable, ...]

_CGROUP = Path("/sys/fs/cgroup/memory.max")


class _Entry(NamedTuple):
    value: "Differences"
    device: str
    n_bytes: int


_entries: OrderedDict[tuple[str, Key], _Entry] = OrderedDict()
_budgets: dict[str, int] = {}
_lock = threading.RLock()  # held while a matrix is read: two threads must not both read it


def budget(device: str) -> int:
    """Bytes that matrices may take on `device`, those that are there already included.

    By default half of what CUDA has free or the cache holds there; a quarter of the machine's
    memory on the CPU.
    """
    name = device_name(device)
    if name in _budgets:
        return _budgets[name]
    if name.startswith("cuda"):
        import torch

        return (torch.cuda.mem_get_info(name)[0] + held(name)) // 2
    return _memory() // 4


def set_budget(device: str, n_bytes: int | None) -> None:
    """Give `device` another budget, or with None the default again; what is over it goes."""
    with _lock:
        if n_bytes is None:
            _budgets.pop(device_name(device), None)
        else:
            _budgets[device_name(device)] = n_bytes
        _make_room(device_name(device), 0)


def held(device: str) -> int:
    """Bytes that matrices take on `device` now."""
    return sum(entry.n_bytes for entry in _entries.values() if entry.device == device_name(device))


def find(device: str, key: Key) -> "Differences | None":
    """Return the matrix of this key, if it is on `device`."""
    with _lock:
        name = device_name(device), key
        if name not in _entries:
            return None
        _entries.move_to_end(name)
        return _entries[name].value


def keep(device: str, key: Key, n_bytes: int, make: "Callable[[], Differences]") -> "Differences":
    """Return the matrix of this key; `make` it, of `n_bytes`, where it is not on `device`."""
    with _lock:
        found = find(device, key)
        if found is None:
            name = device_name(device)
            _make_room(name, n_bytes)
            found = make()
            _entries[name, key] = _Entry(found, name, n_bytes)
        return found


def clear() -> None:
    """Forget all matrices."""
    with _lock:
        _entries.clear()


def device_name(device: "str | torch.device") -> str:
    """Name a device with its number: "cuda" is the current one."""
    name = str(device)
    if name == "cuda":
        import torch

        return f"cuda:{torch.cuda.current_device()}"
    return name


def _make_room(device: str, n_bytes: int) -> None:
    oldest = [name for name, entry in _entries.items() if entry.device == device]
    while oldest and held(device) + n_bytes > budget(device):
        del _entries[oldest.pop(0)]


def _memory() -> int:
    """Bytes of memory that this process may hope for: the machine's, or its container's."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(physical, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # not on Linux, or no limit
        return physical
