"""Does clamping features make a model truer, or better at sums? How strongly, how many of them?

Features are found by what their labels say and by how much more they fire on true answers than on
false ones, on questions that nothing is reported of. They are set to fractions of the strongest
activation that they are known to have, positive and negative, and once each way to what does the
damage that all studies compare at. Beside every set stand random features that fire as often: one
draw at the fractions, several at equal damage. The model writes replies under the largest sets
alone: they take long.

- `clamps`: every clamp by every measure; the change against the unsteered model on the same
  questions, tested by McNemar's exact test or by a paired t, and corrected by Holm for all clamps
  of chosen features; of the answers that changed, how many were right and are wrong now.
- `verdicts`: how many small and large clamps, of either sign, help or harm after that correction.
- `closeness`: whether, at equal damage, features that are nearer to the task do more of either.
- `features`: what was clamped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.benchmark_questions import (
    TruthfulQuestion,
    content_hash,
    drawn,
    halves,
    read_gsm8k,
    read_truthful,
)
from experiments.checked import Count
from experiments.clamping.closeness import closeness
from experiments.clamping.feature_sets import FeatureSet, feature_sets, likeness, truth_contrast
from experiments.clamping.measured import Measured, rows_of
from experiments.clamping.tasks import Outcome, Outcomes, Task, reasoning, truthfulness
from experiments.clamping.verdicts import verdicts
from experiments.laboratory import Laboratory
from experiments.record import Row, say
from trimtab.errors import SelectionError, VectorError
from trimtab.model.features.descriptions import descriptions_file, read_descriptions
from trimtab.selector.scales import DAMAGE_TEXTS
from trimtab.steering.calibration import calibrate
from trimtab.steering.clamp import FeatureClamp
from trimtab.steering.damage import Damage


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        questions: of TruthfulQA that are drawn; one half chooses features, the other is reported.
        problems: of GSM8K that are drawn.
        counts: numbers of features.
        strengths: fractions of each feature's strongest activation.
        draws: of random features at equal damage.
        truthful_phrases: that labels are searched for, for TruthfulQA.
        reasoning_phrases: the same for GSM8K.
        truthful_system: system prompt of TruthfulQA; an empty one leaves the template's own.
        reasoning_system: the same of GSM8K; it says in which form the answer is wanted.
        truthful_replies: questions, of those reported, that are answered in writing, too.
        reasoning_replies: the same of GSM8K.
        truthful_tokens: of a written reply, at most.
        reasoning_tokens: the same of GSM8K.
        descriptions: file of the features' descriptions, as `trimtab describe` writes it; an empty
            one stands for that in the SAE's folder.
    """

    questions: Count = 160
    problems: Count = 24
    counts: tuple[Count, ...] = (1, 4, 16)
    strengths: tuple[float, ...] = (-1.0, -0.1, 0.1, 1.0)
    draws: Count = 3
    truthful_phrases: tuple[str, ...] = ("truth, facts and mistaken beliefs",)
    reasoning_phrases: tuple[str, ...] = ("mathematics, numbers and reasoning step by step",)
    truthful_system: str = ""
    reasoning_system: str = (
        "Work the problem out in short steps. End with #### and the number, like this: #### 12"
    )
    truthful_replies: Count = 24
    reasoning_replies: Count = 12
    truthful_tokens: Count = 128
    reasoning_tokens: Count = 200
    descriptions: str = ""


SIZES = Sizes()


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables.

    Raises:
        SelectionError: the features have no descriptions, or a file of questions is missing.
        PairsError: a file of questions cannot be read.
    """
    sizes, seed = laboratory.sizes, laboratory.config.seed
    table = described(laboratory)
    questions = read_truthful(laboratory.file("truthfulqa/mc_task.json"))
    choosing, reported = halves(questions, sizes.questions, seed)
    problems = drawn(read_gsm8k(laboratory.file("gsm8k/test.jsonl")), sizes.problems, seed)
    say(f"features by {len(choosing)} questions")
    contrast = _contrast(laboratory, choosing)
    model, point = laboratory.model, laboratory.sae.hook_point
    tasks = (
        truthfulness(
            model,
            point,
            reported,
            sizes.truthful_system or None,
            phrases=sizes.truthful_phrases,
            replies=sizes.truthful_replies,
            tokens=sizes.truthful_tokens,
        ),
        reasoning(
            model,
            point,
            problems,
            sizes.reasoning_system or None,
            phrases=sizes.reasoning_phrases,
            replies=sizes.reasoning_replies,
            tokens=sizes.reasoning_tokens,
        ),
    )
    damage = Damage(model, point, max_texts=DAMAGE_TEXTS)
    tables: dict[str, list[Row]] = {
        "clamps": [],
        "verdicts": [],
        "closeness": [],
        "features": [],
    }
    for task in tasks:
        like = likeness(table, task.phrases)
        near = {"likeness of the label": like}
        if task is tasks[0]:  # the contrast is of its answers
            near["contrast"] = contrast
        sets = feature_sets(table, task.phrases, contrast, max(sizes.counts), sizes.draws, seed)
        tables["features"] += _features(task.name, sets, table, like, contrast)
        base = _outcomes(laboratory, task, None, written=True)
        found = [
            one
            for features in sets
            for count in sizes.counts
            for one in _measured(laboratory, task, damage, table, features, count)
        ]
        rows = rows_of(task.name, base, found, task.floors(base))
        tables["clamps"] += rows
        tables["verdicts"] += verdicts(rows)
        alike = [one for one in found if "nats" in one.clamp]
        tables["closeness"] += closeness(task.name, base, alike, near, seed)
    return tables


def described(laboratory: Laboratory) -> pl.DataFrame:
    """Return the descriptions of the SAE's features.

    Raises:
        SelectionError: there are none.
        ModelError: they are damaged, or of another SAE.
    """
    given = laboratory.sizes.descriptions
    file = Path(given) if given else descriptions_file(laboratory.sae.spec)
    if file is None:
        raise SelectionError(
            f"the features of SAE {laboratory.sae.spec} have no descriptions to find them by; "
            "write them with `trimtab describe`, and name the file in the config: "
            "sizes.clamping.descriptions"
        )
    return read_descriptions(file, laboratory.sae.d_sae)


def _contrast(laboratory: Laboratory, choosing: Sequence[TruthfulQuestion]) -> NDArray[np.float64]:
    system = laboratory.sizes.truthful_system or None

    def measure() -> list[float]:
        return truth_contrast(laboratory.model, laboratory.sae, choosing, system)

    key = ("contrast", content_hash([*choosing, system]))
    return np.array(laboratory.journal.once(key, measure))


def _measured(
    laboratory: Laboratory,
    task: Task,
    damage: Damage,
    table: pl.DataFrame,
    features: FeatureSet,
    count: int,
) -> Iterator[Measured]:
    """Yield what the first `count` features of a set do at every strength."""
    sizes = laboratory.sizes
    members = features.members[:count]
    what = f"{task.name}: {features.choice}, {features.features} {features.draw}, {count}"
    if len(members) < count:
        why = SelectionError(f"there are {len(features.members)} such features, not {count}")
        laboratory.fail(what, why)
        return
    say(what)
    most = table["max"].to_numpy()[list(members)].astype(np.float64)

    def clamp(fraction: float) -> FeatureClamp:
        values = dict(zip(members, (fraction * most).tolist(), strict=True))
        return FeatureClamp(laboratory.sae, values)

    def measured(name: str, fraction: float, written: bool) -> Measured:
        clamped = clamp(fraction)
        return Measured(
            features.choice,
            features.features,
            members,
            name,
            fraction,
            fraction * most,
            _damage(laboratory, damage, clamped),
            _outcomes(laboratory, task, clamped, written=written),
        )

    written = count == max(sizes.counts)
    if features.draw == 0:
        for strength in sizes.strengths:
            yield measured(f"{strength:+g}", strength, written)
    for way, sign in (("negative", -1.0), ("positive", 1.0)):
        try:
            multiplier = _at_budget(laboratory, damage, clamp(sign))
        except VectorError as error:
            laboratory.fail(f"{what}, {way}", error)
        else:
            name = f"{way}, {laboratory.config.budget:g} nats"
            yield measured(name, sign * multiplier, written)


def _outcomes(
    laboratory: Laboratory, task: Task, clamp: FeatureClamp | None, *, written: bool
) -> Outcomes:
    """Return the outcomes under a clamp, those of written replies among them if wanted."""
    values = clamp and list(clamp.values.items())
    found: Outcomes = {}
    for part in (task.scored, task.written) if written else (task.scored,):
        kept = laboratory.journal.once(("clamped", part.items, values), partial(part, clamp))
        found |= {name: Outcome(*one) for name, one in kept.items()}
    return found


def _at_budget(laboratory: Laboratory, damage: Damage, clamp: FeatureClamp) -> float:
    """Return the multiplier at which a clamp does the damage of the budget.

    Raises:
        VectorError: none does.
    """

    def measure() -> float | str:
        try:
            start = len(clamp.values) ** -0.5
            return calibrate(clamp, damage, laboratory.config.budget, start=start).multiplier
        except VectorError as error:
            return str(error)

    kept = laboratory.journal.once(("at budget", list(clamp.values.items())), measure)
    if isinstance(kept, str):
        raise VectorError(kept)
    return float(kept)


def _damage(laboratory: Laboratory, damage: Damage, clamp: FeatureClamp) -> float:
    key = ("damage", list(clamp.values.items()))
    return float(laboratory.journal.once(key, lambda: damage(clamp.edit(1.0)).mean))


def _features(
    task: str,
    sets: Sequence[FeatureSet],
    table: pl.DataFrame,
    near: NDArray[np.float64],
    contrast: NDArray[np.float64],
) -> Iterator[Row]:
    """Yield a row a feature of each set."""
    labels = table["label"].to_list()
    for one in sets:
        for feature in one.members:
            yield {
                "task": task,
                "choice": one.choice,
                "features": one.features,
                "draw": one.draw,
                "feature": feature,
                "label": labels[feature],
                "firing_rate": float(table["firing_rate"][feature]),
                "strongest": float(table["max"][feature]),
                "likeness": float(near[feature]),
                "contrast": float(contrast[feature]),
            }
