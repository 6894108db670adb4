"""What the model learns from: pairs whose usefulness was measured, seen as pairs and as prompts.

A pair's usefulness is the derivative of the full vector's effect at equal damage by the pair's
weight, to first order: how fast the vector turns towards the gradient of the margin on the tuning
pairs (`trimtab.selector.exploration.pruning.usefulness`). It takes one gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.model.hook_points import parse_hook_point
from trimtab.model.pooling import mean_features, mean_residuals
from trimtab.model.render import render, render_prompt
from trimtab.pairs.readers.pool import Prospect
from trimtab.selector.exploration.pruning import usefulness
from trimtab.selector.learned.validation import Training
from trimtab.selector.material import gather
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.scales import Floats, MakeMargin, Scales
from trimtab.store import Store
from trimtab.store.fingerprint import longest_of, prompt_form

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

POOLING = "mean"
SHARES = (0.5, 0.25, 0.25)


@dataclass(frozen=True, eq=False)
class Measured:
    """A behaviour's measured pairs, and what judges vectors made of them.

    Attributes:
        training: the pairs of `select`, whose usefulness was measured on those of `tune`.
        effects: what a direction does at equal damage to the pairs of `report`, `(n_pairs,)`.
        groups: of those.
    """

    training: Training
    effects: Callable[[Tensor], Floats]
    groups: tuple[str, ...]


def measure_training(
    store: Store,
    sae: "SAE | None",
    behavior: str,
    scales: Scales,
    make_margin: MakeMargin,
    *,
    seed: int = 0,
) -> Measured:
    """Measure how useful a behaviour's pairs are.

    Raises:
        SelectionError: there is no such behaviour, or its texts are unpaired.
        PairsError: there are too few groups to split.
        VectorError: nothing brings the full vector to the damage budget.
    """
    material = gather(
        store, sae, behavior, questions=None, poolings=(POOLING,), shares=SHARES, seed=seed
    )
    if not all(sample.is_pair for sample in material.samples):
        raise SelectionError(
            f"{behavior!r} has unpaired texts; usefulness is learnt from pairs only"
        )
    parts = material.pools[POOLING]
    full = compose(parts, Choice(tuple(range(parts.n_samples))))
    meter = scales.meter(make_margin(material.tune), f"{behavior} tune")
    found = usefulness(parts.residual, meter.gradient(scales.at_budget(full))).double().numpy()
    weigh = scales.weigh(make_margin(material.report), f"{behavior} report")
    return Measured(
        Training(parts, tuple(sample.group for sample in material.select), found),
        lambda direction: weigh(scales.at_budget(direction)),
        tuple(sample.group for sample in material.report),
    )


def prompts_of(store: Store, behavior: str, sae: "SAE", training: Training) -> Training:
    """Return the same pairs, seen by their prompts alone."""
    rows = store.sql(
        "SELECT sample_id, feature, mean FROM pooled WHERE behavior = ? AND side = 'prompt'",
        [behavior],
    )
    place = {sample_id: i for i, sample_id in enumerate(training.parts.sample_ids)}
    features = torch.zeros(len(place), sae.d_sae)
    known = [sample_id in place for sample_id in rows["sample_id"].to_list()]
    kept = rows.filter(known)
    index = torch.tensor([place[sample_id] for sample_id in kept["sample_id"].to_list()])
    columns = torch.from_numpy(kept["feature"].to_numpy().astype(np.int64))
    features[index.long(), columns] = torch.from_numpy(kept["mean"].to_numpy().copy())
    parts = _prompt_parts(training.parts.sample_ids, features, sae)
    return Training(parts, training.groups, training.usefulness)


def prospects_as_pairs(
    store: Store, model: "LanguageModel", sae: "SAE | None", prospects: Sequence[Prospect]
) -> Parts:
    """Run pairs that no store holds, and return their rows as the store would."""
    chat, system = prompt_form(store.fingerprint)
    longest = longest_of(store.fingerprint)
    rows, starts = [], []
    for prospect in prospects:
        for text in (prospect.positive, prospect.negative):
            rendered = render(model, prospect.messages, str(text), chat=chat, system=system)
            starts.append(min(rendered.n_prompt, longest - 1))
            rows.append(rendered.ids[:longest])
    ids = tuple(prospect.id for prospect in prospects)
    if sae is None:
        point = parse_hook_point(store.fingerprint["hook_point"])
        means = mean_residuals(model, point, rows, starts)
        return Parts(ids, means[::2] - means[1::2])
    means, features = mean_features(model, sae, rows, starts)
    decoder = sae.W_dec.detach().float().cpu()
    return Parts(ids, means[::2] - means[1::2], features[::2] - features[1::2], decoder)


def prospects_as_prompts(
    store: Store, model: "LanguageModel", sae: "SAE", prospects: Sequence[Prospect]
) -> Parts:
    """Run prompts that no store holds, and return their rows as the store would."""
    chat, system = prompt_form(store.fingerprint)
    longest = longest_of(store.fingerprint)
    rows = [
        render_prompt(model, prospect.messages, chat=chat, system=system)[:longest]
        for prospect in prospects
    ]
    _, features = mean_features(model, sae, rows, [0] * len(rows))
    return _prompt_parts(tuple(prospect.id for prospect in prospects), features, sae)


def _prompt_parts(ids: tuple[str, ...], features: Tensor, sae: "SAE") -> Parts:
    """Return parts whose residual is what the SAE sees: a store keeps no residual of a prompt."""
    decoder = sae.W_dec.detach().float().cpu()
    return Parts(ids, features @ decoder, features, decoder)
