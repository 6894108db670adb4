"""Write the docs' table of the scoring benchmark from its results; nothing is measured.

FOLDER=experiments/benchmarks/results/scoring
python -m experiments.benchmarks.scoring_table $FOLDER docs/scoring.md
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

HEAD = """# Benchmark of scoring

How many candidate vectors can be scored per second on the default model. To score one is to measure
its effect on the margin of the same pairs. `python -m experiments.benchmarks.scoring_table` writes
this page from the results of

    python -m experiments.benchmarks.scoring experiments/benchmarks/results/scoring

The columns trimtab, plain hook and steering-vectors are candidates per second: trimtab is compared
with a plain forward hook on the Hugging Face model and with the steering-vectors package, each at
the batch size that was fastest for it in one pass. The three are timed in turn, and a row counts
only if their effects agree. What trimtab runs once, before the first candidate, is included only in
the ratio "with preparation", spread over as many candidates as were measured. The bound is the
ratio to the plain hook that the multiply-adds of the two methods would allow: trimtab runs the
layers below the hook once for all candidates, and the layers above it only for the positions that a
vector can change. The goals were 70 % of the bound, and 20 times the plain hook for single letters
at prompts of 100 tokens. A share above 100 % means that the plain hook fell further short of its
own bound than trimtab did: for completions of 4 tokens at prompts of 100 its best batch size was
not found, and steering-vectors was faster.
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
