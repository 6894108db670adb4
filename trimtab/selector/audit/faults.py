"""Faults of a behaviour's own pairs: suspects that lower the effect, and pairs moved the wrong way.

Nothing is judged on the pairs that named it: suspects and culprits are named by the scored pairs of
each half, remedies are chosen on them, and what they do is measured on pairs that had no part in
either. Both halves' measurements stand together.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.pairs import balanced_groups
from trimtab.selector.attribution import Game, attribute
from trimtab.selector.audit import antisteering
from trimtab.selector.intervals import Estimate, mean_estimate, rate_difference
from trimtab.selector.scales import Floats, MakeMargin, Scales
from trimtab.selector.verdicts.scores import Scores
from trimtab.steering.margin import Margin

DRAWS = 5  # as many random pairs as suspects, dropped so often
NAMED = 5  # culprits of each half

Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Suspects:
    """What dropping the pairs that lower the effect does, at equal damage, on judged pairs.

    Attributes:
        dropped: ids of the suspects, the worst first.
        full: effect of the vector of all pairs.
        without: of the vector without them.
        beyond_random: by how much that exceeds dropping as many random ones.
    """

    dropped: tuple[str, ...]
    full: Estimate
    without: Estimate
    beyond_random: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict."""
        effects = {n: getattr(self, n).to_json() for n in ("full", "without", "beyond_random")}
        return {"dropped": list(self.dropped), **effects}


SHARES = ("scored", "judged", "mended", "change")


@dataclass(frozen=True)
class WrongWay:
    """Pairs that the vector moves the wrong way, and what can be done about it.

    Attributes:
        scored: their share among the scored pairs, where remedies were chosen.
        judged: their share among the judged pairs.
        mended: the same under the remedies' vectors.
        change: by how much the share changes, over the same pairs.
        remedies: of the two halves.
        moved: ids of the scored pairs that go the wrong way, the worst first.
        culprits: ids of the pairs with the lowest attribution towards those.
    """

    scored: Estimate
    judged: Estimate
    mended: Estimate
    change: Estimate
    remedies: tuple[str, ...]
    moved: tuple[str, ...]
    culprits: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict."""
        shares = {name: getattr(self, name).to_json() for name in SHARES}
        names = {name: list(getattr(self, name)) for name in ("remedies", "moved", "culprits")}
        return shares | names


def drop_suspects(
    halves: Sequence[Scores], scales: Scales, make_margin: MakeMargin, *, seed: int, say: Say
) -> Suspects | None:
    """Drop the pairs that hurt and measure what is left; None where no pair does.

    Args:
        halves: scores of samples.
        scales: where vectors are measured.
        make_margin: makes the margin of the judged pairs.
        seed: of the random drops.
        say: told (stage, steps done, steps in all).
    """
    dropped: list[tuple[float, str]] = []
    full, without, random = [], [], []
    groups: list[str] = []
    for number, scores in enumerate(halves, start=1):
        say("measuring without the pairs that hurt", number, len(halves))
        half = scores.half
        suspects = torch.nonzero(scores.bounds()[1] < 0).flatten()
        dropped += [(float(scores.mean[i]), half.parts.sample_ids[i]) for i in suspects.tolist()]
        margin = make_margin(half.judged)
        groups += margin.groups
        effects = _effects_of(scales, margin, f"{half.name} judged")
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            torch.randperm(half.parts.n_samples, generator=generator)[: len(suspects)]
            for _ in range(DRAWS)
        ]
        full.append(effects(half.parts.residual.mean(0)))
        without.append(effects(_mean_without(half.parts.residual, suspects)))
        random.append(
            np.stack([effects(_mean_without(half.parts.residual, one)) for one in drawn], axis=1)
        )
    if not dropped:
        return None
    left = np.concatenate(without)
    return Suspects(
        tuple(sample_id for _, sample_id in sorted(dropped)),
        mean_estimate(np.concatenate(full), groups),
        mean_estimate(left, groups),
        mean_estimate(left[:, None] - np.concatenate(random), groups),
    )


def wrong_way(
    halves: Sequence[Scores], scales: Scales, make_margin: MakeMargin, *, say: Say
) -> WrongWay:
    """Find the pairs that go the wrong way, who is to blame, and what a remedy does.

    Args:
        halves: scores of samples.
        scales: where vectors are measured.
        make_margin: makes the margins of scored, judged and wrong-way pairs.
        say: told (stage, steps done, steps in all).
    """
    scored, judged, mended = [], [], []
    names: list[str] = []
    moved: list[tuple[float, str]] = []
    culprits: list[str] = []
    for number, scores in enumerate(halves, start=1):
        say("looking for pairs that go the wrong way", number, len(halves))
        half, residual = scores.half, scores.half.parts.residual
        full = residual.mean(0)
        slopes = {
            where: _slopes_of(scales, make_margin(samples), f"{half.name} {where}")
            for where, samples in (("scored", half.scored), ("judged", half.judged))
        }
        before = slopes["scored"](full)
        scored.append(before)
        judged.append(slopes["judged"](full))
        wrong = [s for s, slope in zip(half.scored, before, strict=True) if slope < 0]
        if not wrong:
            names.append("none")
            mended.append(judged[-1])
            continue
        moved += [
            (slope, sample.id)
            for sample, slope in zip(half.scored, before.tolist(), strict=True)
            if slope < 0
        ]
        meter = scales.meter(make_margin(wrong), f"{half.name} wrong way")
        multiplier = float(scores.added.norm() / full.norm())
        blame = attribute("jackknife", Game(half.parts, meter, multiplier)).scores
        culprits += [half.parts.sample_ids[i] for i in blame.argsort()[:NAMED].tolist()]
        vectors = {n: w.float() @ residual for n, w in antisteering.remedies(blame).items()}
        tried = {}
        for name, vector in vectors.items():
            with suppress(VectorError):  # a remedy that cannot do the damage is none
                tried[name] = slopes["scored"](vector)
        chosen = antisteering.choose_remedy(before, tried)
        names.append(chosen)
        mended.append(judged[-1] if chosen == "none" else slopes["judged"](vectors[chosen]))
    groups = {
        where: [g for scores in halves for g in balanced_groups(getattr(scores.half, where))]
        for where in ("scored", "judged")
    }
    before, after = np.concatenate(judged), np.concatenate(mended)
    return WrongWay(
        antisteering.wrong_way(np.concatenate(scored), groups["scored"]),
        antisteering.wrong_way(before, groups["judged"]),
        antisteering.wrong_way(after, groups["judged"]),
        rate_difference(
            (after < 0)[:, None].astype(float),
            (before < 0)[:, None].astype(float),
            groups["judged"],
        ),
        tuple(names),
        tuple(sample_id for _, sample_id in sorted(moved)),
        tuple(culprits),
    )


def _mean_without(rows: Tensor, dropped: Tensor) -> Tensor:
    kept = torch.ones(len(rows), dtype=torch.bool)
    kept[dropped] = False
    return rows[kept].double().mean(0).float()


def _effects_of(scales: Scales, margin: Margin, name: str) -> Callable[[Tensor], Floats]:
    """Return every pair's effect at equal damage; none of a vector that nothing brings there."""
    measure = scales.weigh(margin, name)

    def effects(direction: Tensor) -> Floats:
        try:
            return measure(scales.at_budget(direction))
        except VectorError:
            return np.zeros(len(margin.samples))

    return effects


def _slopes_of(scales: Scales, margin: Margin, name: str) -> Callable[[Tensor], Floats]:
    measure = scales.weigh(margin, name)

    def slopes(direction: Tensor) -> Floats:
        return antisteering.slopes(measure, scales.at_budget(direction))

    return slopes
