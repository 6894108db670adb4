"""Does clamping features make a model truer, or better at sums? How strongly, how many of them?

Features are found by what their labels say and by how much more they fire on true answers than on
false ones, on questions that nothing is reported of. They are set to fractions of the strongest
activation that they are known to have, positive and negative, and once each way to what does the
damage that all studies compare at. Beside every set stand random features that fire as often.

- `clamps`: every clamp by every measure; the change against the unsteered model on the same
  questions, tested by McNemar's exact test or by a paired t, and corrected by Holm for all
  clamps of a task and measure; of the answers that changed, how many were right and are wrong now.
- `verdicts`: how many small and large clamps, of either sign, help or harm after that correction.
- `closeness`: whether features that are nearer to the task do more of either.
- `features`: what was clamped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from experiments.clamping.closeness import closeness
from experiments.clamping.feature_sets import FeatureSet, feature_sets, likeness, truth_contrast
from experiments.clamping.measured import Measured, rows_of
from experiments.clamping.tasks import Outcomes, Reasoning, Task, Truthfulness, measured
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
        truthful_phrases: that labels are searched for, for TruthfulQA.
        reasoning_phrases: the same for GSM8K.
        truthful_system: system prompt of TruthfulQA; an empty one leaves the template's own.
        reasoning_system: the same of GSM8K; it says in which form the answer is wanted.
        truthful_tokens: of a written reply, at most.
        reasoning_tokens: the same of GSM8K.
        descriptions: file of the features' descriptions, as `trimtab describe` writes it; an empty
            one stands for that in the SAE's folder.
    """

    questions: int = 64
    problems: int = 8
    counts: tuple[int, ...] = (1, 4, 16)
    strengths: tuple[float, ...] = (-1.0, -0.1, 0.1, 1.0)
    truthful_phrases: tuple[str, ...] = ("truth, facts and mistaken beliefs",)
    reasoning_phrases: tuple[str, ...] = ("mathematics, numbers and reasoning step by step",)
    truthful_system: str = ""
    reasoning_system: str = (
        "Work the problem out in short steps. End with #### and the number, like this: #### 12"
    )
    truthful_tokens: int = 16
    reasoning_tokens: int = 48
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
    any_clamp = FeatureClamp(laboratory.sae, {0: 0.0})
    model, point = laboratory.model, laboratory.sae.hook_point
    truthful = Truthfulness(
        model, any_clamp, reported, sizes.truthful_system or None, sizes.truthful_tokens
    )
    reasoning = Reasoning(
        model, any_clamp, problems, sizes.reasoning_system or None, sizes.reasoning_tokens
    )
    damage = Damage(model, point, max_texts=DAMAGE_TEXTS)
    tasks: list[tuple[Task, Sequence[str]]] = [
        (truthful, sizes.truthful_phrases),
        (reasoning, sizes.reasoning_phrases),
    ]
    tables: dict[str, list[Row]] = {
        "clamps": [],
        "verdicts": [],
        "closeness": [],
        "features": [],
    }
    for task, phrases in tasks:
        near = likeness(table, phrases)
        sets = feature_sets(table, phrases, contrast, max(sizes.counts), seed)
        tables["features"] += _features(task.name, sets, table, near, contrast)
        base = _outcomes(laboratory, task, any_clamp, (), (0.0,))[0]
        found = [
            one
            for features in sets
            for count in sizes.counts
            for one in _measured(laboratory, task, damage, table, features, count)
        ]
        rows = rows_of(task, base, found)
        tables["clamps"] += rows
        tables["verdicts"] += verdicts(rows)
        tables["closeness"] += closeness(
            task.name, base, found, {"likeness of the label": near, "contrast": contrast}, seed
        )
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
    members = features.members[:count]
    if len(members) < count:
        why = SelectionError(f"there are {len(features.members)} such features, not {count}")
        laboratory.fail(f"{task.name}, {features.choice}, {features.features}", why)
        return
    say(f"{task.name}: {features.choice}, {features.features}, {count}")
    most = table["max"].to_numpy()[list(members)].astype(np.float64)
    clamp = FeatureClamp(laboratory.sae, dict(zip(members, most.tolist(), strict=True)))
    strengths = {f"{strength:+g}": strength for strength in laboratory.sizes.strengths}
    damages = {s: _damage(laboratory, damage, clamp, s) for s in laboratory.sizes.strengths}
    budget = laboratory.config.budget
    for way, sign in (("negative", -1), ("positive", 1)):
        try:
            at_budget, damages[at_budget] = _at_budget(laboratory, damage, clamp, sign)
        except VectorError as error:
            what = f"{task.name}, {features.choice}, {features.features}, {count}, {way}"
            laboratory.fail(what, error)
        else:
            strengths[f"{way}, {budget:g} nats"] = at_budget
    outcomes = _outcomes(laboratory, task, clamp, members, tuple(strengths.values()))
    for (name, strength), found in zip(strengths.items(), outcomes, strict=True):
        yield Measured(
            features.choice,
            features.features,
            members,
            name,
            strength,
            strength * most,
            damages[strength],
            found,
        )


def _outcomes(
    laboratory: Laboratory,
    task: Task,
    clamp: FeatureClamp,
    members: tuple[int, ...],
    strengths: tuple[float, ...],
) -> list[Outcomes]:
    key = ("clamped", task.name, task.items, members, strengths)
    kept = laboratory.journal.once(key, lambda: task([(clamp, s) for s in strengths]))
    return measured(kept)


def _at_budget(
    laboratory: Laboratory, damage: Damage, clamp: FeatureClamp, sign: int
) -> tuple[float, float]:
    """Return the signed fraction at which a clamp does the damage of the budget, and the damage.

    Raises:
        VectorError: none does.
    """
    signed = FeatureClamp(laboratory.sae, {f: sign * value for f, value in clamp.values.items()})
    budget = laboratory.config.budget

    def measure() -> list[float] | str:
        try:
            found = calibrate(signed, damage, budget, start=len(clamp.values) ** -0.5)
        except VectorError as error:
            return str(error)
        return [sign * found.multiplier, found.damage.mean]

    kept = laboratory.journal.once(("at budget", list(signed.values.items())), measure)
    if isinstance(kept, str):
        raise VectorError(kept)
    fraction, reached = kept
    return fraction, reached


def _damage(laboratory: Laboratory, damage: Damage, clamp: FeatureClamp, strength: float) -> float:
    key = ("damage", list(clamp.values.items()), strength)
    found = laboratory.journal.once(key, lambda: damage(clamp.edit(strength)).mean)
    return float(found)


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
                "feature": feature,
                "label": labels[feature],
                "firing_rate": float(table["firing_rate"][feature]),
                "strongest": float(table["max"][feature]),
                "likeness": float(near[feature]),
                "contrast": float(contrast[feature]),
            }
