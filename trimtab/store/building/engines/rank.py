"""Which share of the tasks a process has that a launcher started: SLURM, torchrun, or by hand.

Every rank plans the same tasks and runs every n-th of them; who finds the last one committed builds
the catalog. A rank that died is started again by its launcher, and runs what it lacks.
"""

import os
import re
from collections.abc import Mapping
from functools import partial

from trimtab.errors import StoreError


def parse_rank(text: str) -> tuple[int, int]:
    """Read "i/n", i counting from 0. Raises `StoreError` where it is not that."""
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise StoreError(f"rank {text!r} is not of the form i/n with i from 0 to n - 1, as in 0/8")
    return int(match[1]), int(match[2])


def launched_rank(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The rank that the launcher gave this process, and how many there are.

    torchrun sets RANK and WORLD_SIZE; srun sets SLURM_PROCID and SLURM_NTASKS, which count within
    one element of an array job if there is one.

    Raises:
        StoreError: no launcher left its variables, or they leave tasks that no rank would run.
    """
    number = partial(_number, environment)
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _counted(number("RANK", 0), number("WORLD_SIZE", 1), "RANK of WORLD_SIZE")
    if "SLURM_PROCID" not in environment and "SLURM_ARRAY_TASK_ID" not in environment:
        raise StoreError(
            "no launcher gave this process a rank (RANK, SLURM_PROCID, SLURM_ARRAY_TASK_ID);"
            " name it with --rank i/n"
        )
    first, step = number("SLURM_ARRAY_TASK_MIN", 0), number("SLURM_ARRAY_TASK_STEP", 1)
    count = number("SLURM_ARRAY_TASK_COUNT", 1)
    last = number("SLURM_ARRAY_TASK_MAX", first + step * (count - 1))
    if step < 1 or (last - first) // step + 1 != count:
        raise StoreError(
            f"the array job has gaps ({count} elements from {first} to {last}): some tasks would"
            " have no rank; submit all, as in --array=0-7, or name each rank with --rank i/n"
        )
    element = (number("SLURM_ARRAY_TASK_ID", first) - first) // step
    n_ranks = number("SLURM_NTASKS", 1)
    process = _counted(number("SLURM_PROCID", 0), n_ranks, "SLURM_PROCID of SLURM_NTASKS")[0]
    rank = element * n_ranks + process
    return _counted(rank, count * n_ranks, "SLURM_ARRAY_TASK_ID of SLURM_ARRAY_TASK_COUNT")


def own_device(environment: Mapping[str, str] = os.environ) -> str:
    """The GPU that is this process' among those on its machine; "auto" where there is none."""
    import torch

    n_gpus = torch.cuda.device_count()
    number = _number(environment, "LOCAL_RANK", _number(environment, "SLURM_LOCALID", 0))
    return f"cuda:{number % n_gpus}" if n_gpus else "auto"


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not re.fullmatch(r"[0-9]+", text):
        raise StoreError(f"{name} is {text!r}, not a number; name the rank with --rank i/n")
    return int(text)


def _counted(rank: int, n: int, names: str) -> tuple[int, int]:
    if not 0 <= rank < n:
        raise StoreError(f"{names} is {rank} of {n}, but ranks count from 0; give --rank i/n")
    return rank, n
