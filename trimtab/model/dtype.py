"""Which device and which floating-point type to run on."""

import time

import torch

from trimtab.errors import ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str) -> torch.device:
    """The device called `device`; "auto" is CUDA if there is one, else the CPU.

    Raises:
        ModelError: no such device on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"device {device!r} cannot be used: {reason}; try auto or cpu") from error
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype called `dtype`; "auto" is bfloat16 where `device` multiplies it faster, else
    float32.

    CPUs with AVX512-BF16 or AMX run bfloat16 5 to 7 times as fast as float32, others no faster or
    much slower, and nothing but a measurement tells them apart reliably; it takes some ten
    milliseconds.

    Raises:
        ModelError: no such dtype.
    """
    if dtype != "auto":
        if dtype not in DTYPES:
            raise ModelError(f"dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}")
        return DTYPES[dtype]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    slow, fast = (_matmul_seconds(DTYPES[name], device) for name in ("float32", "bfloat16"))
    # a margin, so that noise does not decide where both are about as fast
    return torch.bfloat16 if 1.5 * fast < slow else torch.float32


def _matmul_seconds(dtype: torch.dtype, device: torch.device) -> float:
    """Best of a few products `(64, 512) @ (512, 512)`, about a layer's work on a batch."""
    x = torch.ones(64, 512, dtype=dtype, device=device)
    w = torch.ones(512, 512, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(4):  # the first one warms up
        start = time.perf_counter()
        (x @ w).sum().item()  # .item() waits for an asynchronous device
        best = min(best, time.perf_counter() - start)
    return best
