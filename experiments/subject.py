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
from trimtab.selector.bench import Bench
from trimtab.selector.intervals import Estimate, mean_estimate, rate_estimate
from trimtab.selector.journal import Journal
from trimtab.selector.material import Material, gather
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.steering.damage import Damage
from trimtab.steering.judges.classifier import train_classifier
from trimtab.steering.margin import Margin
from trimtab.store import Store
from trimtab.store.fingerprint import longest_of, prompt_form

SHARES = (0.5, 0.25, 0.25)  # of the groups: vectors are made, chosen, and reported on
DAMAGE_TEXTS = 16  # neutral texts of the meter that vectors are brought to the budget by

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Subject:
    """One behaviour of a store, split by group.

    Vectors are made of `material.select`; what is chosen is chosen on `tune`; figures are of
    `report` and of the replies to the questions.

    Attributes:
        bench: brings vectors to equal damage; lets the model write, and judges it.
        tune: margin of the pairs that choices are made on.
        report: margin of the held-out pairs.
        most: questions whose replies are judged.
    """

    name: str
    material: Material
    bench: Bench
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
        """Margins of the unsteered model on the samples that vectors are made of, `(n,)`."""
        bench, samples = self.bench, self.material.select

        def measure() -> list[float]:
            margin = Margin(
                bench.model,
                samples,
                bench.hook_point,
                chat=bench.chat,
                system=bench.system,
                longest=bench.longest,
            )
            base = dict(zip((sample.id for sample in margin.samples), margin.base, strict=True))
            return [float(base.get(sample.id, np.nan)) for sample in samples]

        return np.array(bench.journal.once(("base of select", self.name), measure))

    @property
    def groups(self) -> list[str]:
        """The groups of the held-out pairs."""
        return [sample.group for sample in self.report.samples]

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
        return self.bench.judge.shows(asked, self.bench.replies(added, asked, strength)).astype(
            float
        )

    def rate(self, direction: Tensor | None) -> Estimate:
        """Estimate the behaviour rate at equal damage; of the unsteered model without a direction.

        Raises:
            VectorError: it cannot be brought to the damage budget.
        """
        added = None if direction is None else self.bench.at_budget(direction)
        shown = self.shown(added)
        return rate_estimate(shown, [str(i) for i in range(len(shown))])


def subject_of(
    store: Store,
    behavior: str,
    model: LanguageModel,
    sae: SAE | None,
    journal: Journal,
    *,
    questions: Sequence[str],
    most: int,
    budget: float,
    seed: int,
) -> Subject:
    """Split a behaviour of a store and prepare its measurements.

    Args:
        store: holds the behaviour, read where vectors are added.
        behavior: which one.
        model: the store's, in float32.
        sae: the store's; None where it has none.
        journal: of every measurement.
        questions: open ones for the behaviour rate.
        most: so many of them are asked.
        budget: damage that vectors are compared at, nats per token.
        seed: of the split.

    Raises:
        SelectionError, PairsError: there are too few samples to split.
    """
    material = gather(
        store, sae, behavior, questions=questions, poolings=("mean",), shares=SHARES, seed=seed
    )
    point = parse_hook_point(store.fingerprint["hook_point"])
    chat, system = prompt_form(store.fingerprint)
    longest = longest_of(store.fingerprint)

    def margin(part: str) -> Margin:
        samples = material.tune if part == "tune" else material.report
        return Margin(model, samples, point, chat=chat, system=system, longest=longest)

    bench = Bench(
        journal,
        point,
        Damage(model, point, max_texts=DAMAGE_TEXTS),
        budget,
        model,
        train_classifier(material.seen, model),
        chat=chat,
        system=system,
        longest=longest,
    )
    return Subject(behavior, material, bench, margin("tune"), margin("report"), most)
