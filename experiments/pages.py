"""The documents' pages of the studies: a few words, figures and the tables of what was measured.

    python -m experiments.pages

Words are in `experiments/NAME/page.md`, measurements in `experiments/NAME/results`; neither a model
nor torch is needed.
"""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

import typer

from experiments.analogies import table as analogies
from experiments.attribution import table as attribution
from experiments.clamping import table as clamping
from experiments.feature_discovery import table as feature_discovery
from experiments.feature_naming import table as feature_naming
from experiments.feature_vectors import table as feature_vectors
from experiments.learned_selection import table as learned_selection
from experiments.minimal import table as minimal
from experiments.minimal_criteria import table as minimal_criteria
from experiments.pictures import table as pictures
from experiments.ravel import table as ravel
from experiments.side_effects import table as side_effects
from experiments.successors import table as successors
from experiments.tables import spaced
from experiments.targets import table as targets

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "studies"

DRAW: dict[str, Callable[[Path], str]] = {
    "targets": targets.draw_several,
    "minimal": minimal.draw,
    "attribution": attribution.draw,
    "learned_selection": learned_selection.draw,
    "feature_vectors": feature_vectors.draw,
    "minimal_criteria": minimal_criteria.draw,
    "feature_discovery": feature_discovery.draw,
    "feature_naming": feature_naming.draw,
    "analogies": analogies.draw,
    "successors": successors.draw,
    "pictures": pictures.draw,
    "clamping": clamping.draw,
    "ravel": ravel.draw,
    "side_effects": side_effects.draw,
}
"""What makes the tables of a study's folder of results, and draws its figures there."""


def page(name: str) -> tuple[str, dict[str, bytes]]:
    """Return a study's page as Markdown, and its figures by the names of their files."""
    words = (HERE / name / "page.md").read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        results = Path(copytree(HERE / name / "results", Path(folder) / "results"))
        tables = DRAW[name](results)
        figures = {file.name: file.read_bytes() for file in sorted(results.glob("*.svg"))}
    shown = "".join(f"![{spaced(Path(file).stem)}]({name}/{file})\n\n" for file in figures)
    return f"{words}\n{shown}## Tables\n\n{tables}", figures


def main() -> None:
    """Write the pages of all studies."""
    for name in DRAW:
        text, figures = page(name)
        (DOCS / name).mkdir(parents=True, exist_ok=True)
        for file, content in figures.items():
            (DOCS / name / file).write_bytes(content)
        (DOCS / f"{name}.md").write_text(text, encoding="utf-8")
        typer.echo(f"{DOCS / name}.md")


if __name__ == "__main__":
    typer.run(main)
