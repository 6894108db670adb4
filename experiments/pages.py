"""The documents' pages of the studies: a few words, and the tables of what was measured.

    python -m experiments.pages

Words are in `experiments/NAME/page.md`, measurements in `experiments/NAME/results`; neither a model
nor torch is needed.
"""

from collections.abc import Callable
from pathlib import Path

import typer

from experiments.targets.table import side_by_side

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "studies"


def targets(results: Path) -> str:
    """Return what surrogates are worth on every behaviour of the results, side by side."""
    return side_by_side(sorted(path.parent for path in results.glob("*/config.json")))


TABLES: dict[str, Callable[[Path], str]] = {"targets": targets}
"""What makes the tables of a study's folder of results, and draws its figures there."""


def page(name: str) -> str:
    """Return a study's page as Markdown."""
    words = (HERE / name / "page.md").read_text(encoding="utf-8")
    return f"{words}\n## Tables\n\n{TABLES[name](HERE / name / 'results')}"


def main() -> None:
    """Write the pages of all studies."""
    DOCS.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        (DOCS / f"{name}.md").write_text(page(name), encoding="utf-8")
        typer.echo(f"{DOCS / name}.md")


if __name__ == "__main__":
    typer.run(main)
