"""The table of `experiments.benchmarks.scoring`, in Markdown, from its results.

python -m experiments.benchmarks.scoring_table experiments/benchmarks/results/scoring
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

HEADS = (
    "prompt",
    "completion",
    "trimtab",
    "plain hook, batched",
    "steering-vectors",
    "× plain",
    "bound",
    "share of bound",
    "× steering-vectors",
    "largest difference",
)


def row(result: dict[str, Any]) -> list[str]:
    """Return one task's cells; the middle three are candidates a second."""
    speed, apart = result["candidates_per_second"], result["largest_difference"]
    completion = result["completion_tokens"]
    return [
        str(result["prompt_tokens"]),
        "letter" if completion == 1 else f"{completion} tokens",
        f"{speed['trimtab']:.2f}",
        f"{speed['plain']:.3f}",
        f"{speed['steering_vectors']:.3f}",
        f"{result['ratio']:.1f}",
        f"{result['bound']:.1f}",
        f"{result['share_of_bound']:.0%}",
        f"{result['ratio_to_steering_vectors']:.1f}",
        f"{max(apart.values()):.0e}",
    ]


def main(folder: Annotated[Path, typer.Argument(help="Folder of the results.")]) -> None:
    """Print the table, and what it was measured on."""
    found = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    found.sort(key=lambda one: (one["result"]["completion_tokens"], one["result"]["prompt_tokens"]))
    lines = [HEADS, ["---:"] * len(HEADS), *(row(one["result"]) for one in found)]
    for cells in lines:
        typer.echo(f"| {' | '.join(cells)} |")
    load = max(one["machine"]["load"] for one in found)
    for pairs, threads, cpu in sorted(
        {(r["pairs"], r["threads"], m["cpu"]) for m, r in (one.values() for one in found)}
    ):
        typer.echo(
            f"\nCandidates a second on {pairs} pairs, float32, {threads} thread(s) of {cpu}, load "
            f"before a measurement at most {load:.1f}; medians, the ways taking turns."
        )


if __name__ == "__main__":
    typer.run(main)
