"""All benchmarks of the store, by one command; what is measured already is not measured again.

    python -m experiments.benchmarks.store experiments/benchmarks/results/store

Each part runs in a process of its own, on a machine that should have nothing else to do, and leaves
a JSON file. `python -m experiments.benchmarks.store_table` writes the table of the docs from them.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

PARTS = {
    "build_overhead": ["build_overhead", "--samples", "160", "--rounds", "3"],
    "store_bytes": ["store_bytes", "--samples", "160"],
    "read_again": ["read_again", "--samples", "64"],
    "queries": ["store_queries", "{synthetic 2000}"],
    "queries_half": ["store_queries", "{synthetic 1000}"],
    "build_memory": ["build_memory", "--samples", "400"],
}
"""What is run for each result; `{synthetic N}` is a store of N random pairs of 128 tokens."""


def run(module: str, *arguments: str) -> None:
    """Run a module of this folder, and stop where it fails."""
    typer.echo(f"== {module} {' '.join(arguments)}")
    command = [sys.executable, "-m", f"experiments.benchmarks.{module}", *arguments]
    subprocess.run(command, check=True)


def machine() -> dict[str, object]:
    """What the figures were measured on, and of which code."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    packages = ("trimtab", "torch", "duckdb", "polars", "sae-lens", "transformers")
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": described.stdout.strip(),
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in packages},
    }


def main(out: Annotated[Path, typer.Argument(help="Folder of the results.")]) -> None:
    """Measure what is not measured yet."""
    out.mkdir(parents=True, exist_ok=True)
    for name, (module, *arguments) in PARTS.items():
        result = out / f"{name}.json"
        if result.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            if arguments[0].startswith("{synthetic"):
                pairs = arguments[0].strip("{}").split()[1]
                arguments[0] = f"{folder}/synthetic"
                run("synthetic_store", arguments[0], "--pairs", pairs)
            before = machine()
            run(module, *arguments, "--out", f"{folder}/result.json")
            measured = json.loads(Path(folder, "result.json").read_text())
        result.write_text(json.dumps({"machine": before, "result": measured}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
