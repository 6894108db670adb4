"""A behaviour as a study sees it: what vectors are made of, and what they are measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.model.hook_points import parse_hook_point
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.selector.bench import Bench
from trimtab.selector.intervals import Estimate, mean_estimate, rate_estimate
from trimtab.selector.journal import Journal
from trimtab.selector.material import Material, gather
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.rankers import FEATURE_RANKERS, Evidence
from trimtab.selector.scales import MakeMargin
from trimtab.steering.damage import Damage
from trimtab.steering.judges.classifier import BehaviorClassifier, train_classifier
from trimtab.steering.margin import Margin
from trimtab.store import Store
from trimtab.store.fingerprint import longest_of, prompt_form

SHARES = (0.5, 0.25, 0.25)  # of the groups: vectors are made, chosen, and reported on

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Subject:
    """One behaviour of a store, split by group.

    Vectors are made of `material.select`; what is chosen is chosen on `tune`; figures are of
    `report` and of the replies to the questions.

    Attributes:
        bench: brings vectors to equal damage; lets the model write, and judges it.
        make_margin: makes a margin of samples, as the two below are.
        tune: margin of the pairs that choices are made on.
        report: margin of the held-out pairs.
        most: questions whose replies are judged.
    """

    name: str
    material: Material
    bench: Bench
    make_margin: MakeMargin
    tune: Margin
    report: Margin
    most: int

    @property
    def parts(self) -> Parts:
        """The rows that vectors are made of."""
        return self.material.pools["mean"]

    @cached_property
    def dense(self) -> Tensor:
        """The mean difference of the residual over all rows, `(d_model,)`."""
        return compose(self.parts, Choice(tuple(range(self.parts.n_samples))))

    @cached_property
    def gradient(self) -> Tensor:
        """Of the tuning margin, `(d_model,)`, where the dense vector stands at the budget."""
        at = self.bench.at_budget(self.dense)
        return self.bench.meter(self.tune, f"{self.name} tune").gradient(at)

    @cached_property
    def base_of_select(self) -> Floats:
        """Margins of the unsteered model on the samples that vectors are made of, `(n,)`.

        NaN of one that the model cannot read whole.
        """

        def measure() -> list[float]:
            margin = self.make_margin(self.material.select)
            base = dict(zip((sample.id for sample in margin.samples), margin.base, strict=True))
            return [float(base.get(sample.id, np.nan)) for sample in self.material.select]

        return np.array(self.bench.journal.once(("base of select", self.name), measure))

    @property
    def paired(self) -> bool:
        """Whether every sample has both sides."""
        return all(sample.is_pair for sample in self.material.samples)

    @property
    def groups(self) -> list[str]:
        """The groups of the held-out pairs."""
        return self.report.groups

    def strongest_features(self, count: int) -> tuple[int, ...]:
        """Return the features whose mean differences make the longest terms."""
        lengths = FEATURE_RANKERS["norm"](Evidence(self.parts, self.dense))
        return tuple(lengths.topk(count).indices.tolist())

    def tuned(self, added: Tensor) -> Floats:
        """Return the effects of adding `added` on the tuning pairs, `(n,)`, nats per token."""
        return self.bench.weigh(self.tune, f"{self.name} tune")(added)

    def effects(self, added: Tensor) -> Floats:
        """Return the effects of adding `added` on the held-out pairs, `(n,)`, nats per token."""
        return self.bench.weigh(self.report, f"{self.name} report")(added)

    def effect(self, directions: Sequence[Tensor]) -> Estimate:
        """Estimate the held-out effect at equal damage, over pairs and over several draws.

        Raises:
            VectorError: one of them cannot be brought to the damage budget.
        """
        added = [self.bench.at_budget(direction) for direction in directions]
        return mean_estimate(np.stack([self.effects(one) for one in added], axis=1), self.groups)

    def shown(self, added: Tensor | None) -> Floats:
        """Return whether the reply to each question shows the behaviour, `(n,)` zeros and ones."""
        asked = self.material.questions[: self.most]
        strength = 0.0 if added is None else float(added.norm())
        replies = self.bench.replies(added, asked, strength)
        return self.bench.judge.shows(asked, replies).astype(np.float64)

    def rate(self, directions: Sequence[Tensor | None]) -> Estimate:
        """Estimate the behaviour rate at equal damage, over questions and over several draws.

        None in place of a direction stands for the unsteered model. There is no rate where no
        question is asked, or the judge cannot judge.

        Raises:
            VectorError: one of them cannot be brought to the damage budget.
        """
        if not self.most:
            return Estimate(None, reason="no question is asked")
        if not self.bench.judge.reliable:
            return Estimate(None, reason=f"the judge's accuracy is {self.bench.judge.accuracy:.2f}")
        added = [None if one is None else self.bench.at_budget(one) for one in directions]
        shown = np.stack([self.shown(one) for one in added], axis=1)
        return rate_estimate(shown, [str(i) for i in range(len(shown))])


def subject_of(
    store: Store,
    behavior: str,
    model: LanguageModel,
    sae: SAE | None,
    journal: Journal,
    damage: Damage,
    *,
    questions: Sequence[str],
    most: int,
    budget: float,
    seed: int,
    classifier: BehaviorClassifier | None = None,
) -> Subject:
    """Split a behaviour of a store and prepare its measurements.

    Args:
        store: holds the behaviour, read where vectors are added.
        behavior: which one.
        model: the store's.
        sae: the store's; None where it has none.
        journal: of every measurement.
        damage: the meter of the store's hook point.
        questions: open ones for the behaviour rate.
        most: so many of them are asked.
        budget: damage that vectors are compared at, nats per token.
        seed: of the split.
        classifier: of the behaviour's replies; None trains one.

    Raises:
        SelectionError, PairsError: there are too few samples to split.
    """
    material = gather(
        store, sae, behavior, questions=questions, poolings=("mean",), shares=SHARES, seed=seed
    )
    point = parse_hook_point(store.fingerprint["hook_point"])
    chat, system = prompt_form(store.fingerprint)
    longest = longest_of(store.fingerprint)

    def make_margin(samples: Sequence[Sample]) -> Margin:
        return Margin(model, samples, point, chat=chat, system=system, longest=longest)

    bench = Bench(
        journal,
        point,
        damage,
        budget,
        model,
        classifier or train_classifier(material.seen, model),
        chat=chat,
        system=system,
        longest=longest,
    )
    tune, report = make_margin(material.tune), make_margin(material.report)
    return Subject(behavior, material, bench, make_margin, tune, report, most)
