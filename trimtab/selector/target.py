"""The target of a run: the cheap measure that stands in for what the model writes.

No surrogate is right for every behaviour, so each has to prove itself in the run: a dozen unlike
vectors are brought to equal damage, their replies judged, and the margin that ranks them most as
their behaviour rates do becomes the target.

- `dataset`: the margin on the pairs' own completions.
- `own_replies`: the margin on replies that the model wrote itself under the dense vector and its
  negative, kept where the classifier finds the side they were meant for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from scipy.stats import spearmanr
from torch import Tensor

from trimtab.errors import SelectionError, VectorError
from trimtab.pairs import Sample
from trimtab.selector.bench import Bench, Conversations
from trimtab.selector.parts import Choice, Parts, compose, everything
from trimtab.selector.rankers import FEATURE_RANKERS, SAMPLE_RANKERS, Evidence
from trimtab.selector.rankers.pursuit import matched
from trimtab.steering.margin import Margin

TargetName = Literal["dataset", "own_replies"]
MIN_REPLIES = 8  # a side: below it own replies teach too little to rank anything by
GRADIENT_STEPS = (0.0, 0.5, 1.0)  # shares of the dense vector at which the gradient is averaged


@dataclass(frozen=True, eq=False)
class Target:
    """A surrogate that candidates are ranked by.

    Attributes:
        name: which surrogate it is.
        margin: what it is measured on.
        gradient: `(d_model,)`, averaged along the dense vector up to its calibrated multiplier.
        rank_correlation: Spearman with the behaviour rate over the panel; None where either was
            constant or the judge cannot judge.
        panel: a row a panel vector: its name, behaviour rate and every surrogate's effect.
    """

    name: TargetName
    margin: Margin
    gradient: Tensor
    rank_correlation: float | None
    panel: tuple[dict[str, Any], ...]

    def effect(self, bench: Bench, direction: Tensor) -> float:
        """Return a direction's effect on the target at equal damage."""
        return bench.effect(direction, self.margin, self.name)


def own_replies(bench: Bench, dense: Tensor, samples: list[Sample]) -> list[Sample]:
    """Return the model's own replies to the samples' prompts, as samples.

    The positive side was written under the dense vector, the negative under its negative or by
    the unsteered model; a reply that the classifier puts on the other side is left out.
    """
    prompts = [sample.messages for sample in samples]
    strength = bench.calibrate(dense).multiplier
    positive = bench.replies(dense, prompts, strength)
    negative = bench.replies(-dense, prompts, bench.calibrate(-dense).multiplier)
    unsteered = bench.replies(None, prompts)
    found = []
    for i, sample in enumerate(samples):
        shows = bench.classifier.shows([positive[i], negative[i], unsteered[i]])
        kept_positive = positive[i] if shows[0] and positive[i] else None
        not_shown = [
            r for r, s in ((negative[i], shows[1]), (unsteered[i], shows[2])) if r and not s
        ]
        kept_negative = next((r for r in not_shown if r != kept_positive), None)
        if kept_positive or kept_negative:
            found.append(
                Sample(
                    id=sample.id,
                    behavior=sample.behavior,
                    messages=sample.messages,
                    positive=kept_positive,
                    negative=kept_negative,
                    group=sample.group,
                )
            )
    return found


def choose_target(
    bench: Bench,
    parts: Parts,
    tune: list[Sample],
    conversations: Conversations,
    *,
    forced: TargetName | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Target:
    """Return the surrogate that ranks a panel of unlike vectors most as their replies do.

    Args:
        bench: the measuring bench.
        parts: rows of the samples to select from.
        tune: samples that margins and gradients are measured on; none of those in `parts`.
        conversations: prompts whose replies are judged.
        forced: use this surrogate; the panel is measured all the same.
        seed: of the panel's random members.
        say: told what is being done.
    """
    dense = compose(parts, Choice(tuple(range(parts.n_samples))))

    def margin(samples: list[Sample]) -> Margin:
        return Margin(
            bench.model,
            samples,
            bench.hook_point,
            positions=bench.positions,
            chat=bench.chat,
            system=bench.system,
        )

    margins: dict[TargetName, Margin] = {"dataset": margin(tune)}
    say("letting the model write its own replies")
    replies = own_replies(bench, dense, [sample for sample in tune if sample.messages])
    if _enough(replies):
        margins["own_replies"] = margin(replies)
    elif forced == "own_replies":
        raise SelectionError(
            f"fewer than {MIN_REPLIES} of the model's own replies a side were kept, too few for a "
            "target; take the dataset's margin, or let the run choose"
        )
    gradients = {}
    for name, surrogate in margins.items():
        say(f"gradient of the margin on {name.replace('_', ' ')}")
        gradients[name] = _gradient(bench, surrogate, dense, name)

    panel = []
    for label, direction in _panel(parts, dense, gradients, seed).items():
        say(f"what the surrogates are worth: {label}")
        try:
            bench.calibrate(direction)
        except VectorError:  # nothing that moves the model: nothing to learn from
            continue
        row: dict[str, Any] = {
            "vector": label,
            "behavior_rate": bench.rate(direction, conversations) if conversations else None,
        }
        for name, surrogate in margins.items():
            row[name] = bench.effect(direction, surrogate, name)
        panel.append(row)
    correlations: dict[TargetName, float | None] = {
        name: _spearman(panel, name) if bench.judge.reliable else None for name in margins
    }
    chosen = forced or _best(correlations)
    return Target(chosen, margins[chosen], gradients[chosen], correlations[chosen], tuple(panel))


def _best(correlations: dict[TargetName, float | None]) -> TargetName:
    """Return the surrogate with the highest correlation; the pairs' own where none has any."""
    known = {name: value for name, value in correlations.items() if value is not None}
    return max(known, key=lambda name: known[name]) if known else "dataset"


def _enough(replies: list[Sample]) -> bool:
    positive = sum(sample.positive is not None for sample in replies)
    negative = sum(sample.negative is not None for sample in replies)
    return min(positive, negative) >= MIN_REPLIES


def _gradient(bench: Bench, margin: Margin, dense: Tensor, name: str) -> Tensor:
    """Average the gradient along the dense vector: integrated gradients with a few steps."""
    found = bench.calibrate(dense)
    along = bench.vector(dense).direction * found.multiplier

    def measure() -> list[float]:
        gradients = [margin.gradient(share * along) for share in GRADIENT_STEPS]
        return [float(x) for x in torch.stack(gradients).mean(0)]

    return torch.tensor(bench.journal.once(("gradient", name, found.multiplier), measure))


def _panel(
    parts: Parts, dense: Tensor, gradients: dict[TargetName, Tensor], seed: int
) -> dict[str, Tensor]:
    """Return a dozen unlike vectors by name, `(d_model,)` each."""
    generator = torch.Generator().manual_seed(seed)
    panel = {
        "dense mean difference": dense,
        "its negative": -dense,
        "a random direction": torch.randn(dense.shape, generator=generator),
    }
    few = max(2, parts.n_samples // 10)
    dense_evidence = Evidence(parts, dense, seed)
    panel[f"{few} random samples"] = compose(
        parts, Choice(_top(SAMPLE_RANKERS["random"](dense_evidence), few))
    )
    every = everything(parts)
    if every.features is not None:
        panel["all features"] = compose(parts, every)
        chosen = _top(FEATURE_RANKERS["random"](dense_evidence), 20)
        panel["20 random features"] = compose(parts, Choice(every.samples, chosen))
        chosen = _top(FEATURE_RANKERS["contrast"](dense_evidence), 20)
        panel["20 features by contrast"] = compose(parts, Choice(every.samples, chosen))
    for name, gradient in gradients.items():
        what = name.replace("_", " ")
        evidence = Evidence(parts, gradient, seed)
        panel[f"gradient on {what}"] = gradient
        panel[f"{few} samples by influence on {what}"] = compose(
            parts, Choice(_top(SAMPLE_RANKERS["influence"](evidence), few))
        )
        if every.features is None:
            continue
        pursued = _top(FEATURE_RANKERS["pursuit"](evidence), 20)
        if pursued:
            choice = matched(parts, Choice(every.samples, pursued), gradient)
            panel[f"20 features matched to {what}"] = compose(parts, choice)
    return panel


def _top(scores: Tensor, count: int) -> tuple[int, ...]:
    """Indices of the best `count` finite scores."""
    best = scores.argsort(descending=True)[:count].tolist()
    return tuple(i for i in best if scores[i] > -torch.inf)


def _spearman(panel: list[dict[str, Any]], name: str) -> float | None:
    rates = [row["behavior_rate"] for row in panel]
    effects = [row[name] for row in panel]
    if len(set(rates)) < 2 or len(set(effects)) < 2:
        return None
    return float(spearmanr(rates, effects).statistic)
