"""What attributions find in the data: poison put in on purpose, and pairs that pull the wrong way.

Poison goes into the pairs that vectors are made of; the pairs that effects are measured on stay
clean, as trusted ones would be.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from experiments.attribution.lab import Floats, Lab
from experiments.attribution.sizes import Sizes
from experiments.attribution.truth import Row, Say
from trimtab.errors import VectorError
from trimtab.selector.attribution import ESTIMATORS, Game, attribute
from trimtab.selector.audit import antisteering, poison
from trimtab.selector.audit.robust import ROBUST_MEANS
from trimtab.selector.intervals import Estimate, mean_estimate, ratio_estimate, share_estimate
from trimtab.selector.parts import Parts
from trimtab.steering.margin import Margin

MEASURING = ("leave_one_out", "shapley", "ridge", "lasso")  # many evaluations a poisoning
CULPRITS = 10  # training pairs that are named


def recalls(game: Game, negative: Tensor | None, sizes: Sizes, say: Say) -> list[Row]:
    """Return recall at the number poisoned, a row a kind of poison, share, estimator.

    Args:
        game: of the clean pairs.
        negative: pooled residual of the samples' negative sides, `(n, d_model)`; None of unpaired
            texts, whose sides nothing can shuffle.
        sizes: how much.
        say: told what is being done.
    """
    clean = Parts(game.parts.sample_ids, game.parts.residual)
    names = [n for n in ESTIMATORS["samples"] if sizes.measured_in_poison or n not in MEASURING]
    rows = []
    for kind in ("flip",) if negative is None else ("flip", "shuffle"):
        for share in sizes.shares:
            found = defaultdict(list)
            for seed in range(sizes.seeds):
                say(f"{kind} {share:.0%}, seed {seed}")
                victims = poison.draw_victims(clean.n_samples, share, game.seed + seed)
                spoilt = (
                    poison.flip(clean, victims)
                    if negative is None or kind == "flip"
                    else poison.shuffle(clean, negative, victims)
                )
                for name in names:
                    one = replace(game, parts=spoilt, seed=game.seed + seed)
                    found[name].append(poison.recall(attribute(name, one).scores, victims))
            drawn = sizes.seeds * len(victims)
            for name, values in found.items():
                recall = share_estimate(round(float(np.mean(values)) * drawn), drawn)
                rows.append({"kind": kind, "share": share, "estimator": name, "recall": recall})
    return rows


def recovery(lab: Lab, game: Game, sizes: Sizes, say: Say) -> list[Row]:
    """Return the held-out effect of flipped pairs after each remedy, all at equal damage.

    Suspects are dropped by each estimator that measures few coalitions, as many as were flipped.
    """
    clean = Parts(game.parts.sample_ids, game.parts.residual)
    groups = lab.groups("held_out")
    names = [name for name in ESTIMATORS["samples"] if name not in (*MEASURING, "norm")]
    whole = _effects(lab, clean.residual.mean(0))
    rows = []
    for share in sizes.shares:
        found: dict[str, list[Floats | None]] = defaultdict(list)
        for seed in range(sizes.seeds):
            say(f"what is left of the effect, {share:.0%} flipped, seed {seed}")
            victims = poison.draw_victims(clean.n_samples, share, game.seed + seed)
            spoilt = poison.flip(clean, victims)
            vectors = {
                "poisoned": spoilt.residual.mean(0),
                "the victims dropped": poison.without(spoilt, victims),
                **{name: centre(spoilt.residual) for name, centre in ROBUST_MEANS.items()},
            }
            for name in names:
                one = replace(game, parts=spoilt, seed=game.seed + seed)
                dropped = poison.suspects(attribute(name, one).scores, len(victims))
                vectors[f"dropped by {name}"] = poison.without(spoilt, dropped)
            for name, vector in vectors.items():
                found[name].append(_effects(lab, vector))
        clean_row = _over_seeds([whole], None, groups)
        rows.append({"share": share, "vector": "clean", "effect": clean_row["effect"]})
        for name, draws in found.items():
            rows.append({"share": share, "vector": name, **_over_seeds(draws, whole, groups)})
    return rows


def _over_seeds(draws: Sequence[Floats | None], whole: Floats | None, groups: Sequence[str]) -> Row:
    """Return a vector's effect and its share of the clean one's, over the seeds that have one.

    `left_out` says how many seeds' vectors nothing brings to the budget, where there are any: an
    effect of 0 would be one that nobody measured.
    """
    there = [draw for draw in draws if draw is not None]
    lacking = len(draws) - len(there)
    why = f"{lacking} of {len(draws)} vectors cannot be brought to the damage budget"
    row: Row = {"left_out": why} if lacking else {}
    if not there:
        return {"effect": Estimate(None, reason=why), "of_clean": Estimate(None, reason=why), **row}
    effects = np.stack(there, axis=1)
    kept = (
        Estimate(None, reason="the clean vector cannot be brought to the damage budget")
        if whole is None
        else ratio_estimate(effects.mean(1), whole, groups, what="the clean vector's effect")
    )
    return {"effect": mean_estimate(effects, groups), "of_clean": kept, **row}


def anti_steering(lab: Lab, game: Game, sizes: Sizes, say: Say) -> tuple[list[Row], list[Row]]:
    """Return shares of pairs that vectors move the wrong way, and the training pairs at fault.

    The remedy is chosen on the scored pairs, and reported on the held-out ones beside as many
    random drops or weights; without a pair that goes the wrong way there is nothing to mend.
    """
    dense = game.parts.residual.mean(0)
    full = {where: _slopes(lab, where, dense) for where in ("scored", "held_out")}
    rows = [_row(lab, where, "full", found) for where, found in full.items()]
    wrong = [
        s
        for s, slope in zip(lab.margins["scored"].samples, full["scored"], strict=True)
        if slope < 0
    ]
    if not wrong:
        return rows, []
    say(f"attribution towards {len(wrong)} pairs that go the wrong way")
    point = lab.margins["scored"].replay.hook_point
    towards = replace(
        lab,
        margins={
            **lab.margins,
            "wrong_way": Margin(lab.margins["scored"].replay.model, wrong, point),
        },
    )
    scores = attribute("jackknife", replace(game, meter=towards.meter("wrong_way"))).scores
    remedies = antisteering.remedies(scores)
    tried = {}
    for name, weights in remedies.items():
        say(f"remedy: {name}")
        tried[name] = _slopes(lab, "scored", weights.float() @ game.parts.residual)
    chosen = antisteering.choose_remedy(full["scored"], tried)
    rows += [_row(lab, "scored", name, found) for name, found in tried.items()]
    if chosen != "none":
        vector = remedies[chosen].float() @ game.parts.residual
        mended = _slopes(lab, "held_out", vector)
        rows.append(_row(lab, "held_out", f"chosen: {chosen}", mended))
        generator = torch.Generator().manual_seed(game.seed)
        for draw in range(sizes.draws):
            order = torch.randperm(len(scores), generator=generator)
            weights = remedies[chosen][order].float()
            found = _slopes(lab, "held_out", weights @ game.parts.residual)
            rows.append(_row(lab, "held_out", f"random {draw}: {chosen}", found))
    worst = scores.argsort()[:CULPRITS].tolist()
    named = [{"sample": game.parts.sample_ids[i], "score": float(scores[i])} for i in worst]
    return rows, named


def _slopes(lab: Lab, where: str, direction: Tensor) -> Floats:
    return antisteering.slopes(lab.effects(where), lab.at_equal_damage(direction))


def _row(lab: Lab, where: str, vector: str, slopes: Floats) -> Row:
    estimates = {
        "wrong_way": antisteering.wrong_way(slopes, lab.groups(where)),
        "slope": mean_estimate(slopes, lab.groups(where)),
    }
    return {"pairs": where, "vector": vector, **estimates, "slopes": slopes.tolist()}


def _effects(lab: Lab, direction: Tensor) -> Floats | None:
    """Held-out effects at equal damage; None of a vector that nothing brings there."""
    try:
        return lab.effects("held_out")(lab.at_equal_damage(direction))
    except VectorError:
        return None
