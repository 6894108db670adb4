"""The minimal vector of every behaviour of a list, proven beside its controls.

    python -m experiments.minimal.study --data DATA --out runs/minimal
    python -m experiments.minimal.table runs/minimal

For each behaviour: build a store, select and prove the vector, measure what attributions of its
samples are worth (`experiments.attribution`). What is there already is left alone, and what was
interrupted goes on, so that the study can be run a behaviour at a time, by many processes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from experiments.attribution.sizes import QUICK
from experiments.attribution.study import study as attribution_study
from experiments.behaviors import questions_of, read_samples, read_sources
from experiments.record import say
from trimtab.errors import TrimtabError
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.sae import SAE, load_sae
from trimtab.pairs import Sample
from trimtab.pairs.quality import describe
from trimtab.selector.journal import Journal
from trimtab.selector.material import draw
from trimtab.selector.run import run
from trimtab.selector.select import Settings
from trimtab.store import build, open_store

BEHAVIORS = Path(__file__).with_name("behaviors.toml")


def study(
    name: str,
    samples: Sequence[Sample],
    questions: Sequence[str],
    model: LanguageModel,
    sae: SAE | None,
    out: Path,
    settings: Settings,
) -> None:
    """Build, select and measure attributions of one behaviour, in `out`.

    Raises:
        SelectionError: `out` holds the results of other samples, questions or settings.
    """
    hashes = [sample.content_hash() for sample in samples]
    Journal(
        out / "asked.json", {"samples": hashes, "questions": list(questions), **asdict(settings)}
    )
    store = build(out / "store", samples, model, sae)
    if not (out / "vector").exists():
        run(
            store,
            name,
            out / "vector",
            model=model,
            sae=sae,
            questions=questions,
            settings=settings,
        )
    quality = describe(samples)
    facts = {"behavior": name, "samples": len(samples), "quality": asdict(quality)}
    (out / "behavior.json").write_text(json.dumps(facts, indent=1) + "\n")
    if not (out / "attribution" / "config.json").exists():
        opened = open_store(out / "store")
        attribution_study(opened, name, model, sae, out / "attribution", sizes=QUICK, say=say)


def main(
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    config: Annotated[Path, typer.Option(help="List of behaviours.")] = BEHAVIORS,
    only: Annotated[list[str] | None, typer.Option(help="Some of them.")] = None,
    samples: Annotated[int, typer.Option(help="Most samples of a behaviour.")] = 240,
    trials: Annotated[int, typer.Option(help="Of each search.")] = 12,
    seed: Annotated[int, typer.Option(help="Of draws and of each selection.")] = 0,
) -> None:
    """Measure every behaviour of the list with the default model and SAE."""
    listed = read_sources(config)
    model = load_model(dtype="float32")
    sae = load_sae("default", model)
    settings = Settings(seed=seed, trials=trials)
    for name in only or listed:
        source = listed[name]
        say(name)
        failed = out / name / "error.txt"
        failed.parent.mkdir(parents=True, exist_ok=True)
        failed.unlink(missing_ok=True)
        try:
            every = read_samples(name, source, data, out / name / "data")
            drawn = draw(every, samples, seed)
            questions = questions_of(name, source, data)
            study(name, drawn, questions, model, sae, out / name, settings)
        except (TrimtabError, OSError) as error:  # one that cannot be had keeps no other waiting
            say(f"{name}: {error}")
            failed.write_text(f"{error}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
