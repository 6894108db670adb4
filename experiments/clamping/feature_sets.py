"""The features that are clamped: found by labels, by a contrast, and random ones like them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from experiments.benchmark_questions import TruthfulQuestion, user
from experiments.controls import as_frequent
from experiments.feature_activity import activity
from trimtab.model.features.search import search
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.selector.parts import Parts
from trimtab.selector.rankers.contrast import effect_sizes
from trimtab.selector.rankers.evidence import Evidence

CONTRAST = "contrast of true and false answers"


@dataclass(frozen=True)
class FeatureSet:
    """Features in an order of which any number is taken, the first ones.

    Attributes:
        choice: how they were found, or those that random ones are like.
        features: "chosen" or "random".
        draw: of random ones, from 0 on.
        members: their numbers.
    """

    choice: str
    features: str
    draw: int
    members: tuple[int, ...]


def feature_sets(
    table: pl.DataFrame,
    phrases: Sequence[str],
    contrast: NDArray[np.float64],
    most: int,
    draws: int,
    seed: int,
) -> list[FeatureSet]:
    """Return the features found by each phrase and by the contrast, each set with its controls.

    Args:
        table: descriptions of the features.
        phrases: what labels are searched for, as `trimtab labels search` does.
        contrast: how much more a feature fires on true answers than on false ones, `(d_sae,)`.
        most: features of a set.
        draws: of random ones beside it.
        seed: of the random ones, which fire about as often.
    """
    rng = np.random.default_rng(seed)
    rates = table["firing_rate"].to_numpy().astype(np.float64)
    found = {f"label: {p}": search(table, p, most)["feature"].to_list() for p in phrases}
    alive = np.where(rates > 0, contrast, 0.0)
    best = np.argsort(-alive, kind="stable")[:most]
    found[CONTRAST] = [int(feature) for feature in best if alive[feature] > 0]
    return [
        FeatureSet(choice, features, draw, tuple(members))
        for choice, chosen in found.items()
        for features, drawn in (
            ("chosen", [chosen]),
            ("random", as_frequent(rates, chosen, draws, rng)),
        )
        for draw, members in enumerate(drawn)
    ]


def likeness(table: pl.DataFrame, phrases: Sequence[str]) -> NDArray[np.float64]:
    """Return how like each feature's label is to the phrase that it is most like, `(d_sae,)`."""
    near = np.zeros(table.height)
    for phrase in phrases:
        found = search(table, phrase, table.height)
        place = found["feature"].to_numpy()
        near[place] = np.maximum(near[place], found["similarity"].to_numpy())
    return near


def truth_contrast(
    model: LanguageModel, sae: SAE, questions: Sequence[TruthfulQuestion], system: str | None
) -> list[float]:
    """Return how much more each feature fires on true answers than on false ones, `(d_sae,)`.

    It is Cohen's d over questions of the mean activation on true answers less that on false ones.
    """
    rendered, owners, truths = [], [], []
    for owner, one in enumerate(questions):
        for answer, true in one.mc2.items():
            rendered.append(render(model, user(one.question), answer, system=system))
            owners.append(owner)
            truths.append(true)
    means = activity(model, sae, rendered).means
    index, is_true = torch.tensor(owners), torch.tensor(truths)

    def of(side: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(questions), sae.d_sae).index_add(0, index[side], means[side])
        return total / torch.bincount(index[side], minlength=len(questions))[:, None]

    names = tuple(one.question for one in questions)
    differences = Parts(names, torch.zeros(len(names), 1), of(is_true) - of(~is_true))
    return [float(d) for d in effect_sizes(Evidence(differences, torch.zeros(1)))]
