"""Which point of the surface is exported: the smallest that keeps what the dense vector adds.

What counts is what the model writes, and a rate of a few dozen replies is noisy (40 of them: 0.13
to either side). The smallest of several points that pass is the one that luck favoured most, so

- no decision rests on a rate alone. A point holds where it adds at least the asked share of what
  the dense vector adds in 80 of 100 bootstrap draws of the prompts, over the same prompts: of
  points whose rate is truly a tenth too low, one or two in a hundred pass with 80 prompts, where
  a comparison of rates lets seven pass;
- the prompts of `tune`, on which the target's gradient was taken, are joined by prompts of
  `select` that no finalist is made of;
- the strongest point is the one with the highest lower bound, and both are measured anew, on
  `report`, where nothing was chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.pairs import Sample
from trimtab.selector.bench import Bench, Conversations
from trimtab.selector.exploration.surface import FAITHFUL, Candidate, pareto
from trimtab.selector.intervals import resampled_means
from trimtab.selector.material import Conversation, distinct, groups_of
from trimtab.selector.parts import Parts, compose

SMALLEST, STRONGEST = 6, 3  # finalists whose replies are judged
CONFIDENCE = 0.8  # that a point holds, before it is exported for its smallness
MAX_PROMPTS = 80  # whose replies are judged

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Verdict:
    """Which points were taken.

    Attributes:
        chosen: the smallest that holds; where none does, the one that most likely holds.
        strongest: the one that adds most to the behaviour rate, by its lower bound.
        rates: behaviour rate of every finalist that was judged.
        rows: a row a finalist, as the card holds them.
        n_prompts: how many prompts were judged; 0 where the target's effect decided alone.
    """

    chosen: Candidate
    strongest: Candidate
    rates: dict[Candidate, float]
    rows: list[dict[str, Any]]
    n_prompts: int


def choose(
    bench: Bench,
    pools: Mapping[str, Parts],
    candidates: Sequence[Candidate],
    dense: Tensor,
    dense_effect: float,
    prompts: Conversations,
    tune: Sequence[Sample],
    select: Sequence[Sample],
    *,
    tolerance: float,
) -> Verdict:
    """Judge the finalists' replies and take the smallest that holds.

    Where the judge cannot judge, or there is no prompt, the effect on the target decides.

    Args:
        bench: writes replies at equal damage, and judges them.
        pools: the parts that candidates are made of, by pooling.
        candidates: all that were measured; random ones are passed over.
        dense: the dense vector, `(d_model,)`.
        dense_effect: its effect on the target.
        prompts: that are asked, each once.
        tune: the samples that prompts are of, where they are of any.
        select: the samples of the parts' rows, in their order.
        tolerance: share of what the dense vector adds that must be kept.

    Raises:
        SelectionError: there is no candidate.
    """
    finalists, keeping = _finalists(candidates, dense_effect, tolerance)
    asked = prompts_to_judge(prompts, select, finalists)
    if not (bench.judge.reliable and asked):
        strongest = max(finalists, key=lambda c: c.effect)
        chosen = min(keeping, key=_smallest_first) if keeping else strongest
        return Verdict(chosen, strongest, {}, [_row(c) for c in finalists], 0)
    directions = [dense, *(compose(pools[c.pooling], c.choice) for c in finalists)]
    multipliers = [bench.calibrate(direction).multiplier for direction in directions]
    replies = bench.replies_each(directions, asked, multipliers)
    full, *shown = [bench.judge.shows(asked, some) for some in replies]
    unsteered = bench.judge.shows(asked, bench.replies(None, asked))
    groups = groups_of(asked, [*tune, *select])
    holds, added = {}, {}
    for candidate, one in zip(finalists, shown, strict=True):
        holds[candidate], added[candidate] = _weighed(one, full, unsteered, groups, tolerance)
    holding = [c for c in finalists if holds[c] >= CONFIDENCE]
    likeliest = max(finalists, key=lambda c: (holds[c], -c.log_rows, c.effect))
    rates = {c: float(one.mean()) for c, one in zip(finalists, shown, strict=True)}
    return Verdict(
        min(holding, key=_smallest_first) if holding else likeliest,
        max(finalists, key=lambda c: (added[c], c.effect)),
        rates,
        [_row(c, rates[c], holds[c]) for c in finalists],
        len(asked),
    )


def prompts_to_judge(
    prompts: Conversations, select: Sequence[Sample], finalists: Sequence[Candidate]
) -> tuple[Conversation, ...]:
    """Return the conversations that are asked: `prompts`, then those that no finalist holds."""
    held = {select[i].group for c in finalists for i in c.choice.samples}
    fresh = [sample.messages for sample in select if sample.group not in held]
    return distinct((*prompts, *fresh))[:MAX_PROMPTS]


def _finalists(
    candidates: Sequence[Candidate], dense_effect: float, tolerance: float
) -> tuple[list[Candidate], list[Candidate]]:
    """Return points to judge, and those of the front that keep the effect.

    The smallest few of the front keep the dense vector's effect on the target; the strongest few
    have the largest. Beside them stand those near the dense vector, which no target chose.
    """
    front = pareto([c for c in candidates if c.method != "random"])
    if not front:
        raise SelectionError("nothing could be selected: no feature differs between the sides")
    strongest = sorted(front, key=lambda c: c.effect)
    keeping = [c for c in front if dense_effect > 0 and c.effect >= tolerance * dense_effect]
    keeping.sort(key=_smallest_first)
    near = [c for c in candidates if c.method in FAITHFUL]
    return list(dict.fromkeys(keeping[:SMALLEST] + near + strongest[-STRONGEST:])), keeping


def _weighed(
    one: Bools, full: Bools, unsteered: Bools, groups: Sequence[str], tolerance: float
) -> tuple[float, float]:
    """Return how surely a vector holds, and the lower bound of what it adds to the rate.

    Both come from draws of whole groups of prompts. It holds in a draw where it adds something, and
    at least `tolerance` of what the full vector adds; the bound is passed in `CONFIDENCE` of them.
    """
    columns = np.stack([one, full], axis=1).astype(float) - unsteered[:, None]
    draws = resampled_means(columns, groups, seed=0)
    added, full_added = draws.T
    enough = (added > 0) & (added >= tolerance * np.maximum(full_added, 0.0) - 1e-12)
    return float(enough.mean()), float(np.quantile(added, 1 - CONFIDENCE))


def _smallest_first(candidate: Candidate) -> tuple[float, float]:
    return candidate.log_rows, -candidate.effect


def _row(
    candidate: Candidate, rate: float | None = None, holds: float | None = None
) -> dict[str, Any]:
    samples, features = candidate.size
    return {
        "origin": candidate.origin,
        "samples": samples,
        "features": features or None,
        "effect": candidate.effect,
        "behavior_rate": rate,
        "holds": holds,
    }
