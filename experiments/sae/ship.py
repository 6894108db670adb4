"""Put a trained SAE, what was measured of it and its features' descriptions into the package.

    python -m experiments.sae.ship runs/sae --evaluation runs/evaluation.json \\
        --behavior runs/behavior --descriptions runs/features.parquet
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from experiments.sae.behavior_table import TABLE
from experiments.sae.evaluate import DENSE
from experiments.sae.yardstick import BUDGET
from trimtab.errors import ModelError, SelectionError
from trimtab.model.default import default_sae_folder
from trimtab.model.features.descriptions import FILE, read_descriptions
from trimtab.model.language_model import load_model
from trimtab.model.sae import load_sae

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
ESTIMATES = ("effect", "effect_share", "rate", "rate_beyond_dense")
ROWS = (
    *("vector", "behavior", "n_features", "cosine", "multiplier", "kl"),
    *(name + end for name in ESTIMATES for end in ("", "_low", "_high")),
)


def ship(
    sae: Annotated[Path, typer.Argument(help="Folder that experiments.train_sae wrote.")],
    evaluation: Annotated[Path, typer.Option(help="Of experiments.sae.evaluate.")],
    behavior: Annotated[Path, typer.Option(help="Of experiments.sae.behavior.")],
    descriptions: Annotated[Path, typer.Option(help="Of trimtab describe.")],
    out: Annotated[Path, typer.Option(help="Where the package keeps it.")] = default_sae_folder(),  # noqa: B008
) -> None:
    """Copy the SAE to `out`, beside its features' descriptions and a card of all that is known.

    Raises:
        ModelError: the evaluation is of other weights, or the descriptions of another width.
        SelectionError: the behaviour check has nothing of these weights.
    """
    trained: dict[str, Any] = json.loads((sae / "card.json").read_text(encoding="utf-8"))
    sha256 = _loaded(sae)
    found = [
        result
        for result in json.loads(evaluation.read_text(encoding="utf-8")).values()
        if result["sae_sha256"] == sha256
    ]
    if not found:
        raise ModelError(f"{evaluation} holds nothing of the weights in {sae}")
    described = read_descriptions(descriptions, trained["training"]["width"])
    card = {
        "what": f"sparse autoencoder of {trained['model']}, trained by this project",
        **trained,
        "stored": "JumpReLU, 16-bit weights; every figure here is of this file",
        "texts": TEXTS,
        "evaluation": {"dense_above": DENSE, **found[0]},
        "behavior": {
            "budget": f"{BUDGET} nats per token",
            "rows": _behavior(behavior, sha256),
        },
        "descriptions": {
            "sha256": hashlib.sha256(descriptions.read_bytes()).hexdigest(),
            "quoted": _quoted(described),
        },
    }
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in FILES:
        shutil.copy(sae / name, part / name)
    shutil.copy(descriptions, part / FILE)
    (part / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    size = sum(file.stat().st_size for file in out.iterdir())
    typer.echo(f"{out}: {size / 1e6:.1f} MB")


def _loaded(sae: Path) -> str:
    """Hash of the weights, as every result names them."""
    loaded = load_sae(str(sae), load_model())
    assert loaded is not None
    return loaded.fingerprint()["sae_sha256"]


def _behavior(folder: Path, sha256: str) -> list[dict[str, Any]]:
    rows = pl.read_parquet(folder / TABLE)
    if not (rows["sae_sha256"] == sha256).any():
        raise SelectionError(f"{folder} holds nothing of these weights")
    mine = rows.filter((pl.col("sae_sha256") == sha256) | pl.col("sae").is_null())
    return mine.select(ROWS).to_dicts()


def _quoted(described: pl.DataFrame) -> list[str]:
    """Sources that contexts are quoted from."""
    sources = described["contexts"].explode().struct.field("source").drop_nulls()
    return sorted(sources.unique())


if __name__ == "__main__":
    typer.run(ship)
