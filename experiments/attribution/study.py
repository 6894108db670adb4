"""Attribution with a measured truth, on one behaviour of a store.

    python -m experiments.attribution.study runs/store formality --out runs/attribution
    python -m experiments.attribution.table runs/attribution

1. Split by group: `select` makes vectors, `tune` gives attributions (the scored pairs), `report` is
   held out.
2. Measure random subsets at one fixed multiplier in float32; score every estimator against them.
3. Drop the top of each, and watch the held-out effect.
4. Poison the pairs, look for it, and mend it.
5. Find the pairs that the vector moves the wrong way, and those that are to blame.

Each measurement is journaled, so that an interrupted run resumes. The store must be built with
the model that this loads: the one that the store names.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from experiments.attribution.data_faults import anti_steering, recalls, recovery
from experiments.attribution.lab import BUDGET, Lab
from experiments.attribution.sizes import FULL, SIZES, Sizes
from experiments.attribution.table import draw
from experiments.attribution.truth import Row, Say, attributions, brittleness, full_game, score
from experiments.record import say, write_results
from trimtab.model.hook_points import parse_hook_point
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.sae import SAE, load_sae
from trimtab.pairs import Sample
from trimtab.selector.journal import Journal
from trimtab.selector.material import gather
from trimtab.selector.parts import Parts
from trimtab.selector.rankers import FEATURE_RANKERS, Evidence
from trimtab.selector.scales import Scales
from trimtab.steering.damage import Damage
from trimtab.steering.margin import Margin
from trimtab.store import Store, open_store

SHARES = (0.5, 0.25, 0.25)


def study(
    store: Store,
    behavior: str,
    model: LanguageModel,
    sae: SAE | None,
    out: Path,
    *,
    sizes: Sizes = FULL,
    seed: int = 0,
    say: Say = lambda _: None,
) -> None:
    """Measure everything, and write the tables into `out`.

    Raises:
        SelectionError: there is no such behaviour, or `out` holds a run with other settings.
    """
    settings = {
        "store": store.content_hash,
        "behavior": behavior,
        "seed": seed,
        "budget": BUDGET,
        "shares": SHARES,
        **asdict(sizes),
    }
    journal = Journal(out / "journal.jsonl", settings)
    material = gather(
        store, sae, behavior, questions=None, poolings=("mean",), shares=SHARES, seed=seed
    )
    point = parse_hook_point(store.fingerprint["hook_point"])
    lab = Lab(
        Scales(journal, point, Damage(model, point, max_texts=sizes.damage_texts), BUDGET),
        {
            "scored": Margin(model, material.tune[: sizes.pairs], point),
            "held_out": Margin(model, material.report[: sizes.pairs], point),
        },
    )
    parts = largest_features(material.pools["mean"], sizes.features)
    begun = time.process_time()
    game = full_game(lab, parts, sizes, seed)
    found = list(attributions(game, say))
    tables: dict[str, Sequence[Row]] = {}
    tables["lds"], tables["subsets"] = score(lab, game, found, sizes, say)
    tables["brittleness"] = brittleness(lab, game, found, sizes, say)
    negative = negatives(store, behavior, material.select)
    tables["recall"] = recalls(game, negative, sizes, say)
    tables["recovery"] = recovery(lab, game, sizes, say)
    tables["anti_steering"], tables["culprits"] = anti_steering(lab, game, sizes, say)
    tables["samples"] = [
        {"sample": sample_id}
        | {name: float(a.scores[i]) for unit, name, a in found if unit == "samples"}
        for i, sample_id in enumerate(parts.sample_ids)
    ]
    config = {
        "settings": settings,
        "multiplier": game.multiplier,
        "pairs": {name: len(margin.samples) for name, margin in lab.margins.items()},
        "samples": parts.n_samples,
        "model": model.fingerprint(),
        "sae": None if sae is None else sae.fingerprint(),
        "cpu_seconds": time.process_time() - begun,
    }
    write_results(out, tables, config)


def largest_features(parts: Parts, count: int) -> Parts:
    """Return the parts with the `count` features that have the longest terms, in their order."""
    if parts.features is None or parts.decoder is None:
        return parts
    lengths = FEATURE_RANKERS["norm"](Evidence(parts, torch.zeros(parts.residual.shape[1])))
    kept = lengths.topk(min(count, len(lengths))).indices.sort().values
    return replace(parts, features=parts.features[:, kept], decoder=parts.decoder[kept])


def negatives(store: Store, behavior: str, samples: Sequence[Sample]) -> Tensor | None:
    """Return the pooled residual of each pair's negative side, `(n, d_model)`; None of texts."""
    if not all(sample.is_pair for sample in samples):
        return None
    rows = store.sql(
        "SELECT sample_id, mean FROM residuals WHERE behavior = ? AND side = 'negative'", [behavior]
    )
    pooled = dict(rows.select("sample_id", "mean").iter_rows())
    return torch.tensor([pooled[sample.id] for sample in samples])


def main(
    store: Annotated[Path, typer.Argument(help="A store of pairs.", show_default=False)],
    behavior: Annotated[str, typer.Argument(help="One of its behaviours.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    size: Annotated[str, typer.Option(help=f"How much: {', '.join(SIZES)}.")] = "full",
    seed: Annotated[int, typer.Option(help="Of splits, subsets, poison and controls.")] = 0,
) -> None:
    """Measure what attributions are worth, with the model that the store names."""
    if size not in SIZES:
        raise typer.BadParameter(f"must be one of {', '.join(SIZES)}", param_hint="--size")
    opened = open_store(store)
    names: dict[str, Any] = opened.fingerprint
    model = load_model(names["model"], dtype="float32", revision=names["model_revision"] or None)
    sae = load_sae(names["sae"], model)
    study(opened, behavior, model, sae, out, sizes=SIZES[size], seed=seed, say=say)
    typer.echo(draw(out))


if __name__ == "__main__":
    typer.run(main)
