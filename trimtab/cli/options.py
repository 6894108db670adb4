"""Options that several commands have."""

import math
from typing import Annotated

import typer


def _above_zero(value: float) -> float:
    if not 0 < value < math.inf:
        raise typer.BadParameter("must be a number above 0")
    return value


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Hub name, folder or .gguf file; default: SmolLM2-135M-Instruct."),
]
StatedModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Hub name, folder or .gguf file; by default the one the store or vector was made "
        "with, else SmolLM2-135M-Instruct.",
    ),
]
StatedSaeOption = Annotated[
    str | None,
    typer.Option(
        "--sae",
        help="release/id of sae_lens, a folder, or `none`; by default what the store or vector "
        "was made with, else the packaged one.",
    ),
]
DtypeOption = Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.")]
DeviceOption = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1, ..., balanced (spread over all GPUs) or auto.")
]
SeedOption = Annotated[int, typer.Option(help="Seed for splits and random choices.")]
TrialsOption = Annotated[int, typer.Option(min=0, help="Trials of the Optuna search.")]
PanelOption = Annotated[
    int,
    typer.Option(
        min=10, help="Number of unlike vectors; the target is calibrated on the replies under them."
    ),
]
DrawsOption = Annotated[int, typer.Option(min=3, help="Number of draws of each random control.")]
BudgetOption = Annotated[
    float,
    typer.Option(
        help="Damage at which vectors are compared: KL in nats per token.", callback=_above_zero
    ),
]
