"""Which share of the tasks a process has that a launcher started: SLURM, torchrun, or by hand.

Every rank plans the same tasks and runs every n-th of them; who finds the last one committed builds
the catalog. A rank that died is started again by its launcher, and runs what it lacks.
"""

import os
import re
from collections.abc import Mapping

from trimtab.errors import StoreError


def parse_rank(text: str) -> tuple[int, int]:
    """Read "i/n", i counting from 0. Raises `StoreError` where it is not that."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise StoreError(f"rank {text!r} is not of the form i/n with i from 0 to n - 1, as in 0/8")
    return int(match[1]), int(match[2])


def launched_rank(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The rank that the launcher gave this process, and how many there are.

    torchrun sets RANK and WORLD_SIZE; srun sets SLURM_PROCID and SLURM_NTASKS, which count within
    one element of an array job if there is one.

    Raises:
        StoreError: no launcher left its variables.
    """

    def number(name: str, default: int) -> int:
        return int(environment.get(name, default))

    if "RANK" in environment and "WORLD_SIZE" in environment:
        return number("RANK", 0), number("WORLD_SIZE", 1)
    if "SLURM_PROCID" not in environment and "SLURM_ARRAY_TASK_ID" not in environment:
        raise StoreError(
            "no launcher gave this process a rank (RANK, SLURM_PROCID, SLURM_ARRAY_TASK_ID);"
            " name it with --rank i/n"
        )
    first, step = number("SLURM_ARRAY_TASK_MIN", 0), number("SLURM_ARRAY_TASK_STEP", 1)
    element = (number("SLURM_ARRAY_TASK_ID", first) - first) // step
    n_ranks = number("SLURM_NTASKS", 1)
    rank = element * n_ranks + number("SLURM_PROCID", 0)
    return rank, number("SLURM_ARRAY_TASK_COUNT", 1) * n_ranks


def own_device(environment: Mapping[str, str] = os.environ) -> str:
    """The GPU that is this process' among those on its machine; "auto" where there is none."""
    import torch

    n_gpus = torch.cuda.device_count()
    number = int(environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", 0)))
    return f"cuda:{number % n_gpus}" if n_gpus else "auto"
