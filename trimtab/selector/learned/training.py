"""What the model learns from: pairs whose usefulness was measured, seen as pairs and as prompts.

A pair's usefulness is the derivative of the full vector's effect at equal damage by the pair's
weight, to first order: how fast the vector turns towards the gradient of the margin on the tuning
pairs (`trimtab.selector.pruning.usefulness`). It takes one gradient.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from trimtab.model.hook_points import parse_hook_point
from trimtab.model.pooling import mean_features, mean_residuals
from trimtab.model.render import render, render_prompt
from trimtab.pairs.readers.pool import Prospect
from trimtab.selector.attribution import Meter
from trimtab.selector.learned.judge import Training
from trimtab.selector.material import Material
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.pruning import usefulness
from trimtab.selector.scales import Scales
from trimtab.store import Store
from trimtab.store.fingerprint import prompt_form

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE


def measure_training(material: Material, pooling: str, scales: Scales, meter: Meter) -> Training:
    """Measure how useful the pairs of `select` are, by the margin of other pairs.

    Args:
        material: whose `select` pairs are measured.
        pooling: of their rows.
        scales: bring the full vector to the damage budget.
        meter: of the margin on the `tune` pairs.

    Raises:
        VectorError: nothing brings the full vector to the damage budget.
    """
    parts = material.pools[pooling]
    full = compose(parts, Choice(tuple(range(parts.n_samples))))
    gradient = meter.gradient(scales.at_budget(full))
    found = usefulness(parts.residual, gradient).double().numpy()
    return Training(parts, tuple(sample.group for sample in material.select), found)


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
    longest = int(store.fingerprint["max_tokens"])
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
    longest = int(store.fingerprint["max_tokens"])
    rows = [
        render_prompt(model, prospect.messages, chat=chat, system=system)[:longest]
        for prospect in prospects
    ]
    _, features = mean_features(model, sae, rows, [0] * len(rows))
    return _prompt_parts(tuple(prospect.id for prospect in prospects), features, sae)


def _prompt_parts(ids: tuple[str, ...], features: torch.Tensor, sae: "SAE") -> Parts:
    """Return parts whose residual is what the SAE sees: a store keeps no residual of a prompt."""
    decoder = sae.W_dec.detach().float().cpu()
    return Parts(ids, features @ decoder, features, decoder)
