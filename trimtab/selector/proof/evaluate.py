"""The held-out proof: a vector and its controls, at equal damage, on pairs and questions that no
choice has seen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.pairs import Message, Sample
from trimtab.selector.bench import Bench
from trimtab.selector.intervals import (
    Estimate,
    mean_estimate,
    rate_difference,
    rate_estimate,
    ratio_estimate,
)
from trimtab.selector.material import groups_of
from trimtab.selector.prompting import with_examples
from trimtab.steering.calibration import Calibration
from trimtab.steering.damage import Damage, Divergence
from trimtab.steering.margin import Margin

SLOPE_MULTIPLIERS = (-1.0, 1.0)  # of the calibrated one, beside 0
FEW_DRAWS = 3  # of a random control, whose replies are looked at more closely
CURVE_SHARES = (0.25, 0.5, 1.5, 2.0)  # of the calibrated one, for the damage curve


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Pairs and open questions kept for the report, the meter that calibrates for it, and one of
    the damage on neutral chats."""

    margin: Margin
    questions: tuple[tuple[Message, ...], ...]
    damage: Damage
    chats: Damage | None = None

    @property
    def groups(self) -> list[str]:
        """The pairs' groups, for the bootstrap."""
        return self.margin.groups

    @property
    def question_groups(self) -> list[str]:
        """The questions' groups: those of the pairs whose prompts they are."""
        return groups_of(self.questions, self.margin.samples)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one vector, or several draws of one control, did: averaged over draws.

    Attributes:
        effects: every held-out sample's change of margin, `(n_samples, draws)`.
        shown: whether the reply to each question shows the behaviour, `(n_questions, draws)`.
        question_groups: of the questions; each stands alone where there are none.
        calibration: of the first draw; None where nothing was added to the residual.
        replies: of the first draw.
        more_replies: of every further draw.
        nats: per token of each reply to the unsteered model, `(n_questions, few draws)`; NaN where
            a reply is empty.
        repetition: share of each reply that repeats itself, `(n_questions, few draws)`.
        chats: divergence on neutral chats, its mean and 95th percentile averaged over a few draws;
            None where nothing was added to the residual.
    """

    effects: NDArray[np.float64]
    shown: NDArray[np.float64]
    calibration: Calibration | None
    replies: tuple[str, ...]
    more_replies: tuple[tuple[str, ...], ...] = ()
    nats: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 1)))
    repetition: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 1)))
    chats: Divergence | None = None
    question_groups: Sequence[str] = ()

    @property
    def asked(self) -> list[str]:
        """The groups of the questions."""
        return list(self.question_groups or _each(len(self.shown)))

    @property
    def draws(self) -> int:
        """How many vectors this is the outcome of."""
        return int(self.effects.shape[1])

    def effect(self, groups: Sequence[str]) -> Estimate:
        """The mean effect with its interval over groups of samples, and over draws."""
        return mean_estimate(self.effects, groups)

    def behavior_rate(self) -> Estimate:
        """The behaviour rate with its interval over questions, and over draws."""
        return rate_estimate(self.shown, self.asked)

    def mean_nats(self) -> Estimate:
        """The mean nats per token over questions that no draw left without a reply."""
        read = np.isfinite(self.nats).all(axis=1)
        spoken = self.nats[read]
        if not len(spoken):
            return Estimate(None, reason="there is no reply to read")
        return mean_estimate(spoken, [self.asked[i] for i in np.flatnonzero(read)])

    def to_json(self, groups: Sequence[str]) -> dict[str, Any]:
        """Return effect, behaviour rate and fluency as the card holds them, and at which damage."""
        return {
            "effect": self.effect(groups).to_json(),
            "behavior_rate": self.behavior_rate().to_json(),
            "nats": self.mean_nats().to_json(),
            "repetition": float(self.repetition.mean()) if self.repetition.size else None,
            "kl_mean": None if self.calibration is None else self.calibration.damage.mean,
            "chats": None if self.chats is None else asdict(self.chats),
            "draws": self.draws,
        }


def measure(bench: Bench, held_out: HeldOut, directions: Sequence[Tensor]) -> Outcome:
    """Measure the draws of one vector, each calibrated by the report's own damage meter.

    Raises:
        VectorError: a draw cannot be brought to the damage budget.
    """
    effects, calibrations = [], []
    for direction in directions:
        calibration = bench.calibrate(direction, held_out.damage, meter="report")
        calibrations.append(calibration)
        effects.append(bench.effects(direction, held_out.margin, "report", calibration.multiplier))
    multipliers = [calibration.multiplier for calibration in calibrations]
    replies = bench.replies_each(directions, held_out.questions, multipliers)
    found = _outcome(bench, held_out, np.stack(effects, axis=1), replies, calibrations[0])
    few = slice(FEW_DRAWS)
    return replace(found, chats=_on_chats(bench, held_out, directions[few], calibrations[few]))


def _on_chats(
    bench: Bench,
    held_out: HeldOut,
    directions: Sequence[Tensor],
    calibrations: Sequence[Calibration],
) -> Divergence | None:
    if held_out.chats is None:
        return None
    found = [
        bench.divergence(direction, held_out.chats, calibration.multiplier, meter="chats")
        for direction, calibration in zip(directions, calibrations, strict=True)
    ]
    return Divergence(fmean(d.mean for d in found), fmean(d.p95 for d in found))


def measure_unsteered(bench: Bench, held_out: HeldOut) -> Outcome:
    """Measure the untouched model: no effect by definition, and its own behaviour rate."""
    replies = bench.replies(None, held_out.questions)
    return _outcome(bench, held_out, np.zeros((len(held_out.groups), 1)), [replies])


def measure_prompting(bench: Bench, held_out: HeldOut, examples: Sequence[Sample]) -> Outcome:
    """Measure plain prompting: a few positive examples in the context, no steering.

    The same tokens are scored as without; a prompt that has no room for the examples stays bare.
    """
    lengths = held_out.margin.lengths.tolist()

    def effects() -> list[float]:
        bare = held_out.margin.samples
        prompted = [replace(s, messages=with_examples(s.messages, examples)) for s in bare]
        found = bench.margin(prompted, max_tokens=lengths)
        if len(found.samples) < len(bare):
            fit = {sample.id for sample in found.samples}
            some = zip(bare, prompted, strict=True)
            mixed = [other if one.id in fit else one for one, other in some]
            found = bench.margin(mixed, max_tokens=lengths)
        return [float(x) for x in found.base - held_out.margin.base]

    replies = bench.replies(None, bench.prompted(held_out.questions, examples))
    ids = [sample.id for sample in examples]
    changes = np.array(bench.journal.once(("prompting", ids), effects))
    return _outcome(bench, held_out, changes[:, None], [replies])


def _outcome(
    bench: Bench,
    held_out: HeldOut,
    effects: NDArray[np.float64],
    replies: Sequence[Sequence[str]],
    calibration: Calibration | None = None,
) -> Outcome:
    """Judge the replies of every draw, as answers to the bare questions whatever came before."""
    shown = [bench.judge.shows(held_out.questions, some).astype(float) for some in replies]
    fluencies = [bench.fluency(held_out.questions, some) for some in replies[:FEW_DRAWS]]
    return Outcome(
        effects,
        np.stack(shown, axis=1),
        calibration,
        tuple(replies[0]),
        more_replies=tuple(map(tuple, replies[1:])),
        nats=np.stack([fluency.nats for fluency in fluencies], axis=1),
        repetition=np.stack([fluency.repetition for fluency in fluencies], axis=1),
        question_groups=held_out.question_groups,
    )


def anti_steerable(bench: Bench, held_out: HeldOut, direction: Tensor) -> Estimate:
    """Estimate the share of held-out pairs whose margin falls as the multiplier grows.

    A pair's steerability is the least-squares slope of its margin over multipliers -1, 0 and 1
    times the calibrated one (Tan et al. 2024); by symmetry that is half the difference of the
    outer two.
    """
    found = bench.calibrate(direction, held_out.damage, meter="report")
    down, up = (
        bench.effects(direction, held_out.margin, "report", share * found.multiplier)
        for share in SLOPE_MULTIPLIERS
    )
    return rate_estimate((up - down < 0).astype(float), held_out.groups)


def faithfulness(
    small: Outcome, full: Outcome, unsteered: Outcome, groups: Sequence[str]
) -> tuple[Estimate, Estimate]:
    """Return faithfulness for the margin and for the behaviour rate, small over full.

    The rate's is the ratio of what each adds to the unsteered rate.
    """
    margin = ratio_estimate(
        small.effects[:, 0], full.effects[:, 0], groups, what="the dense vector's margin effect"
    )
    rate = ratio_estimate(
        (small.shown - unsteered.shown)[:, 0],
        (full.shown - unsteered.shown)[:, 0],
        small.asked,
        what="what the dense vector adds to the behaviour rate",
    )
    if np.array_equal(small.shown, full.shown):  # a bootstrap would claim certainty
        rate = Estimate(rate.value, reason=rate.reason or "both rates are of the same questions")
    return margin, rate


def rate_beyond(one: Outcome, other: Outcome) -> Estimate:
    """Estimate by how much one behaviour rate exceeds another over the same questions."""
    return rate_difference(one.shown, other.shown, one.asked)


def effect_beyond(one: Outcome, other: Outcome, groups: Sequence[str]) -> Estimate:
    """Estimate by how much one margin effect exceeds another over the same pairs."""
    return mean_estimate(one.effects - other.effects, groups)


def damage_curve(bench: Bench, held_out: HeldOut, direction: Tensor) -> list[tuple[float, float]]:
    """Return (multiplier of the unit vector, mean divergence) around the calibrated one."""
    found = bench.calibrate(direction, held_out.damage, meter="report")
    vector = bench.vector(direction)

    def measure() -> list[tuple[float, float]]:
        multipliers = [share * found.multiplier for share in CURVE_SHARES]
        return [(m, held_out.damage(vector.edit(m)).mean) for m in multipliers]

    points = bench.journal.once(("damage curve", vector.direction.tolist()), measure)
    return sorted([*map(tuple, points), *found.curve])


def _each(count: int) -> list[str]:
    """Groups of one: questions have no groups."""
    return [str(i) for i in range(count)]
