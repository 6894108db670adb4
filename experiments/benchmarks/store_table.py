"""Write the docs' table of the store's benchmarks from their results; nothing is measured.

python -m experiments.benchmarks.store_table experiments/benchmarks/results/store docs/benchmarks.md
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Result = dict[str, Any]

HEAD = """# Benchmarks of the store

`python -m experiments.benchmarks.store_table` writes this page from the results of one run of

    python -m experiments.benchmarks.store experiments/benchmarks/results/store

Each ratio compares two things measured in turn in one run, on the same work; absolute times hold
for this machine only. The goals were a build at 1.05 times the bare pass, memory that does not
grow, 5.8 bytes per non-zero in float32 and 3.6 in bfloat16, 10 ms for the top 20 samples of a
feature and 200 ms for a contrast. Which goals are missed, and why, is in experiments/LOG.md.
"""


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _build(result: Result) -> str:
    times = [
        (name, f"{seconds:.1f}", f"{seconds / result['seconds']['bare']:.2f}")
        for name, seconds in result["seconds"].items()
    ]
    return f"""## A build, compared with the bare forward pass and SAE encode of the same batches

{result["pairs"]} pairs, {result["tokens"]:,} tokens, default model and SAE, float32 on the
{result["device"]}, {result["threads"]} threads; medians of {len(result["rounds"]["bare"])} rounds.
"shards" ends when the last shard is on disk; "whole" also includes plan, fingerprint and catalog.

{_rows(["", "seconds", "of bare"], times)}
"""


def _bytes(result: Result) -> str:
    rows = [
        (
            name,
            f"{row['tokens']:,}",
            f"{row['nnz']:,}" if "nnz" in row else "dense",
            f"{row['bytes'] / row['nnz']:.2f}" if "nnz" in row else "",
            f"{row['bytes'] / row['tokens']:,.0f}",
            f"{row.get('all_bytes', row['bytes']):,}",
        )
        for name, row in result.items()
    ]
    head = ["cache", "tokens", "non-zeros", "bytes a non-zero", "bytes a token", "whole folder"]
    return f"""## Bytes on the disk

Same model, SAE and texts; each tool caches them with its own code. For trimtab the bytes are those
of the shards' activations, token ids and token texts. The whole folder also holds the catalog,
pooled residuals and the SAE's feature descriptions, which weigh most when there are few tokens. The
other tools cut the text into windows of one length. delphi's
non-zeros include the first token of every window, an attention sink on which thousands of features
fire; SAELens keeps the dense residual.

{_rows(head, rows)}
"""


def _again(result: Result) -> str:
    seconds = result["seconds"]
    apart = result["largest_difference"]
    differ = f"differ by {apart:.1g} of a sample's norm at most" if apart else "do not differ"
    rows = [
        (
            "one sample",
            f"{1000 * seconds['read']:.0f}",
            f"{1000 * seconds['run']:.0f}",
            f"{result['run_over_read']:.1f}",
        ),
        (
            f"all {result['samples']} at once",
            f"{1000 * seconds['read all']:.0f}",
            f"{1000 * seconds['run all']:.0f}",
            f"{result['run_over_read_all']:.1f}",
        ),
    ]
    return f"""## Reading stored samples, compared with running them again

Token ids, residuals and activations of the default model; stored and recomputed values {differ}.

{_rows(["", "read, ms", "run, ms", "ratio"], rows)}
"""


def _memory(result: list[Result]) -> str:
    rows = [
        (
            f"{row['tokens']:,}",
            f"{row['nnz']:,}",
            f"{row['before'] / 1e6:,.0f}",
            f"{row['peak'] / 1e6:,.0f}",
        )
        for row in result
    ]
    head = ["tokens", "non-zeros", "before the build, MB", "peak, MB"]
    times = result[-1]["tokens"] / result[0]["tokens"]
    return f"""## Host memory of a build

A tiny random model with {result[0]["nnz"] / result[0]["tokens"]:.0f} non-zeros per token, on one
text and on {times:.0f} times as much, each in its own process. "Before the
build" already includes libraries and model.

{_rows(head, rows)}
"""


def _queries(result: Result) -> str:
    rows = [
        tuple(
            [row["question"]]
            + [_shown(row.get(key)) for key in ("ms", "scan_ms", "scan_over_store")]
        )
        for row in result["questions"]
    ]
    held = result["store"]
    return f"""## Interactive latency: {held["nnz"]:,} non-zeros of {held["n_samples"]:,} pairs

A synthetic store, {held["bytes_per_nnz"]:.2f} bytes per non-zero; medians with warm caches, next to
a lazy polars scan of the same files.

{_rows(["", "store, ms", "scan, ms", "ratio"], rows)}
"""


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value >= 0.05 else "< 0.1"


SECTIONS: dict[str, Callable[[Any], str]] = {
    "build_overhead": _build,
    "store_bytes": _bytes,
    "read_again": _again,
    "build_memory": _memory,
    "queries": _queries,
    "queries_half": _queries,
}


def main(
    results: Annotated[Path, typer.Argument(help="Folder of the results.")],
    out: Annotated[Path, typer.Argument(help="Markdown file to write.")],
) -> None:
    """Write the table."""
    sections, machines = [HEAD], []
    for name, section in SECTIONS.items():
        measured = json.loads((results / f"{name}.json").read_text())
        sections.append(section(measured["result"]))
        machines.append(measured["machine"])
    first = machines[0]
    versions = ", ".join(f"{name} {number}" for name, number in first["versions"].items())
    sections[0] += (
        f"\nMeasured on {first['measured'][:10]}: {first['cores']} cores, {first['cpu']}, no"
        f" GPU; {versions}.\n"
    )
    out.write_text("\n".join(sections))


if __name__ == "__main__":
    typer.run(main)
