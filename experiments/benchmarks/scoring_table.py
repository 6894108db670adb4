"""Write the docs' table of the scoring benchmark from its results; nothing is measured.

FOLDER=experiments/benchmarks/results/scoring
python -m experiments.benchmarks.scoring_table $FOLDER docs/scoring.md
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

HEAD = """# Benchmark of scoring

How many candidate vectors a second get their effect on the margin of the same pairs measured, on
the default model. Written by `python -m experiments.benchmarks.scoring_table` from what

    python -m experiments.benchmarks.scoring experiments/benchmarks/results/scoring

left there. Beside trimtab: a plain forward hook on the Hugging Face model, and the steering-vectors
package, both at the batch size that was fastest for them in one pass. The three take turns, and a
row counts only where their effects agree. What trimtab runs once, before the first candidate, is in
the ratio "with preparation" alone, for as many candidates as were measured. The bound is what the
multiply-adds of either way would allow: trimtab runs the layers below the hook once for all
candidates, and the layers above it for the positions that a vector can change. Aimed at: 70 % of
the bound, 20 times the plain hook for letters at 100 tokens. A share above 100 % means that the
plain hook stayed further behind its own bound: for 4 tokens at 100 its best batch size was not
found, and steering-vectors was faster.
"""

HEADS = (
    "prompt",
    "completion",
    "trimtab",
    "plain hook, batched",
    "steering-vectors",
    "× plain",
    "with preparation",
    "bound",
    "share of bound",
    "× steering-vectors",
    "largest difference",
)


def row(result: dict[str, Any]) -> list[str]:
    """Return one task's cells; the middle three are candidates a second."""
    speed, apart = result["candidates_per_second"], result["largest_difference"]
    completion = result["completion_tokens"]
    n = result["candidates"]
    prepared = n / (n / speed["trimtab"] + result["seconds_to_prepare"])
    return [
        str(result["prompt_tokens"]),
        "letter" if completion == 1 else f"{completion} tokens",
        f"{speed['trimtab']:.2f}",
        f"{speed['plain']:.3f}",
        f"{speed['steering_vectors']:.3f}",
        f"{result['ratio']:.1f}",
        f"{prepared / speed['plain']:.1f} for {n}",
        f"{result['bound']:.1f}",
        f"{result['share_of_bound']:.0%}",
        f"{result['ratio_to_steering_vectors']:.1f}",
        f"{max(apart.values()):.0e}",
    ]


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the results.")],
    page: Annotated[Path, typer.Argument(help="Markdown file to write.")],
) -> None:
    """Write the page of what was measured, and what it was measured on."""
    found = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    if not found:
        raise typer.BadParameter(f"{folder} holds no results of experiments.benchmarks.scoring")
    found.sort(key=lambda one: (one["result"]["completion_tokens"], one["result"]["prompt_tokens"]))
    lines = [HEADS, ["---:"] * len(HEADS), *(row(one["result"]) for one in found)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    load = max(one["machine"]["load"] for one in found)
    peers = ", ".join(sorted({one["machine"]["steering_vectors"] for one in found}))
    measured = "".join(
        f"{pairs} pairs, float32, {threads} thread(s) of {cpu}; load before a measurement at most "
        f"{load:.1f}; {peers}.\n"
        for pairs, threads, cpu in sorted(
            {(r["pairs"], r["threads"], m["cpu"]) for m, r in (one.values() for one in found)}
        )
    )
    try:
        page.write_text(f"{HEAD}\n{table}\n\n{measured}", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{page} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    typer.run(main)
