"""Put a trained SAE, what was measured of it and its features' descriptions into the package.

    python -m experiments.sae.ship runs/sae --evaluation runs/evaluation.json \\
        --behavior runs/behavior --descriptions runs/features.parquet
"""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from trimtab.model.default import default_sae_folder

FILES = ("cfg.json", "sae_weights.safetensors")
TEXTS = {
    "p3": "Apache-2.0 (bigscience/P3; the sets beneath have their own terms)",
    "sgd": "CC-BY-SA-4.0 (Schema-Guided Dialogue)",
    "gpteacher": "MIT (teknium1/GPTeacher)",
    "hh-rlhf": "MIT (anthropics/hh-rlhf)",
    "english-novels": "public domain",
    "factbook": "public domain (The World Factbook)",
    "openstax": "CC-BY-4.0 (OpenStax textbooks)",
    "wiki-split": "CC-BY-SA-4.0 (Wikipedia, by way of WikiSplit)",
}
ROWS = ("vector", "behavior", "cosine", "effect_share", "rate", "rate_beyond_dense")


def ship(
    sae: Annotated[Path, typer.Argument(help="Folder that experiments.train_sae wrote.")],
    evaluation: Annotated[Path, typer.Option(help="Of experiments.sae.evaluate.")],
    behavior: Annotated[Path, typer.Option(help="Of experiments.sae.behavior.")],
    descriptions: Annotated[Path, typer.Option(help="Of trimtab describe.")],
    out: Annotated[Path, typer.Option(help="Where the package keeps it.")] = default_sae_folder(),  # noqa: B008
) -> None:
    """Copy the SAE to `out`, beside its features' descriptions and a card of all that is known."""
    trained: dict[str, Any] = json.loads((sae / "card.json").read_text(encoding="utf-8"))
    card = {
        "what": f"sparse autoencoder of {trained['model']}, trained by this project",
        **trained,
        "stored": "JumpReLU, 16-bit weights; every figure here is of this file",
        "texts": TEXTS,
        "evaluation": json.loads(evaluation.read_text(encoding="utf-8"))[str(sae)],
        "behavior": _behavior(behavior, sae),
    }
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in FILES:
        shutil.copy(sae / name, part / name)
    shutil.copy(descriptions, part / "features.parquet")
    (part / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out)
    part.rename(out)
    size = sum(file.stat().st_size for file in out.iterdir())
    typer.echo(f"{out}: {size / 1e6:.1f} MB")


def _behavior(folder: Path, sae: Path) -> list[dict[str, Any]]:
    rows = pl.read_parquet(folder / "behavior.parquet")
    mine = rows.filter((pl.col("sae") == str(sae)) | pl.col("sae").is_null())
    return mine.select(ROWS).to_dicts()


if __name__ == "__main__":
    typer.run(ship)
