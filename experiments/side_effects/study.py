"""What do steering vectors break? And can a topic be clamped away without the rest?

1. Vectors: the dense vector of every behaviour and its vector of few features, each sign at equal
   damage, on MMLU's questions and on neutral text that they were not brought to the budget by;
   beside them random directions. Vectors that were exported elsewhere can be listed in the sizes.
2. Topics: the features that fire more on a topic's questions than on others, found on one half of
   the questions, set to zero or below wherever they fire, while the question is read, too. What
   that does to the topic's other half and to the rest, and to the one less the other, beside random
   features that write about as much into the residual.

Changes are tested on the same questions (McNemar's exact test, a paired t), corrected by
Holm for all of a measure but the random ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from experiments.benchmark_questions import (
    TwoChoices,
    content_hash,
    drawn,
    halves,
    read_two_choices,
)
from experiments.checked import Count
from experiments.controls import random_directions, stand_ins
from experiments.feature_activity import activity
from experiments.laboratory import Laboratory
from experiments.paired import compared, corrected
from experiments.record import Row, say
from experiments.side_effects.battery import ACCURACIES, PROSE, Battery, Scores
from experiments.side_effects.rows import apart, stacked
from experiments.side_effects.topics import topic_features, topic_of, where_it_fires
from experiments.subject import Subject
from trimtab.errors import SelectionError, VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.selector.journal import Journal
from trimtab.selector.parts import Choice, compose
from trimtab.selector.rankers.pursuit import matched
from trimtab.selector.scales import DAMAGE_TEXTS, Scales, digest
from trimtab.steering.apply import Edit
from trimtab.steering.damage import Damage, neutral_texts
from trimtab.steering.positions import Positions
from trimtab.steering.vector import SteeringVector, load_vector


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        questions: of MMLU, that vectors are measured on.
        texts: neutral ones, beyond those of the damage budget.
        features: of a behaviour's small vector.
        draws: of a random direction, and of random features.
        vectors: folders or files of exported vectors.
        topics: that are clamped away, of `experiments.side_effects.topics`.
        topic_questions: of each topic and of the rest; one half chooses, the other is reported.
        topic_features: that are clamped.
        values: that they are set to, times their strongest activation on the choosing questions.
    """

    questions: Count = 160
    texts: Count = 40
    features: Count = 20
    draws: Count = 3
    vectors: tuple[str, ...] = ()
    topics: tuple[str, ...] = ("biology and medicine", "mathematics", "history")
    topic_questions: Count = 120
    topic_features: Count = 20
    values: tuple[float, ...] = (0.0, -1.0)


SIZES = Sizes()
FEWEST = 4  # questions of a topic, and of the rest


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables.

    Raises:
        SelectionError: the file of questions is missing.
        PairsError: it cannot be read.
        VectorError, ModelError: a vector of the config cannot be read, or is of another model.
    """
    questions = read_two_choices(laboratory.file("caa/test/mmlu/mmlu.json"))
    exported = {spec: _exported(spec, laboratory.model) for spec in laboratory.sizes.vectors}
    # vectors first: a topic's rows end early, and quietly, where `out` is of another config
    vectors = corrected(list(_vectors(laboratory, questions, exported)))
    topics = [
        row
        for topic in laboratory.sizes.topics
        for row in laboratory.rows(topic, _topic(laboratory, topic, questions))
    ]
    return {"vectors": vectors, "topics": corrected(topics)}


@dataclass(frozen=True, eq=False)
class _Place:
    """Where vectors act, and what they are measured on there."""

    scales: Scales
    battery: Battery

    def scores(self, direction: Tensor | None) -> Scores:
        """Return the scores of a direction `(d_model,)` at the damage budget; None: unsteered.

        Raises:
            VectorError: it cannot be brought to the budget.
        """
        added = None if direction is None else self.scales.at_budget(direction)
        change: Edit | None = None if added is None else lambda x: x + added.to(x)
        of = None if added is None else digest(added)
        key = ("scores", self.battery.name, of)
        found: Scores = self.scales.journal.once(key, lambda: self.battery(change))
        return found


def _exported(spec: str, model: LanguageModel) -> SteeringVector:
    """Return a vector that was exported.

    Raises:
        VectorError, ModelError: it cannot be read, is of another model, or acts on generated tokens
            alone.
    """
    vector, _ = load_vector(Path(spec))
    vector.check(model)
    if vector.positions == "generated":
        raise VectorError(
            f"{spec} acts on generated tokens only, and answers are scored as they stand; "
            "export it with positions prompt_end or all"
        )
    return vector


def _vectors(
    laboratory: Laboratory, questions: Sequence[TwoChoices], exported: Mapping[str, SteeringVector]
) -> Iterator[Row]:
    """Yield a row a vector, sign and measure; the random directions first."""
    sizes = laboratory.sizes
    some = drawn(questions, sizes.questions, laboratory.config.seed)
    texts = neutral_texts()[DAMAGE_TEXTS:][: sizes.texts]
    random = random_directions(laboratory.model.d_model, sizes.draws, laboratory.config.seed)

    @cache
    def at(point: HookPoint, positions: Positions) -> _Place:
        file = laboratory.out / f"vectors-{point}-{positions}.jsonl"
        journal = Journal(file, laboratory.settings)  # calibrations have one key at every point
        damage = Damage(laboratory.model, point, max_texts=DAMAGE_TEXTS)
        return _Place(
            Scales(journal, point, damage, laboratory.config.budget, positions=positions),
            Battery(laboratory.model, some, texts, point, positions),
        )

    @cache
    def control(place: _Place) -> list[Scores]:
        return [place.scores(direction) for direction in random]

    own = at(laboratory.sae.hook_point, "prompt_end")
    say("random directions")
    name: Row = {"of": "", "vector": "random direction", "sign": ""}
    yield from _rows(name, own, None, control(own))
    for subject in laboratory.subjects():
        vectors = {"dense": subject.dense, "few features": _few(subject, sizes.features)}
        for kind, direction in vectors.items():
            yield from _signed(laboratory, subject.name, kind, direction, own, control(own))
    for spec, vector in exported.items():
        place = at(vector.hook_point, vector.positions)
        yield from _signed(laboratory, spec, "exported", vector.direction, place, control(place))


def _signed(
    laboratory: Laboratory,
    of: str,
    kind: str,
    direction: Tensor,
    place: _Place,
    control: list[Scores],
) -> Iterator[Row]:
    """Yield the rows of a direction and of its negative, each at the damage budget by itself."""
    for sign, factor in (("+", 1.0), ("−", -1.0)):
        say(f"{of}: {sign} {kind}")
        try:
            found = place.scores(factor * direction)
        except VectorError as error:
            laboratory.fail(f"{of}, {sign} {kind}", error)
        else:
            yield from _rows({"of": of, "vector": kind, "sign": sign}, place, found, control)


def _rows(name: Row, place: _Place, found: Scores | None, control: list[Scores]) -> Iterator[Row]:
    """Yield a row a measure of what was found, or of the random directions where that is None."""
    for measure, base in place.scores(None).items():
        random = stacked(control, measure)
        after, beside = (random, None) if found is None else (np.array(found[measure]), random)
        row = compared(np.array(base), after, beside, binary=measure in ACCURACIES)
        yield name | {"measure": measure} | row


def _few(subject: Subject, count: int) -> Tensor:
    """Return the vector of the strongest features, matched to the dense one."""
    samples = tuple(range(subject.parts.n_samples))
    choice = Choice(samples, subject.strongest_features(count))
    return compose(subject.parts, matched(subject.parts, choice, subject.dense))


def _topic(laboratory: Laboratory, topic: str, questions: Sequence[TwoChoices]) -> Iterator[Row]:
    """Yield a row a choice of features, value, part of the questions and measure.

    Raises:
        SelectionError: the topic has too few questions, or no feature of its own.
    """
    most, seed = laboratory.sizes.topic_questions, laboratory.config.seed
    say(f"{topic}: features")
    of_topic = [one for one in questions if topic_of(one.category) == topic]
    rest = [one for one in questions if topic_of(one.category) != topic]
    if min(len(of_topic), len(rest)) < FEWEST:
        known = ", ".join(sorted({topic_of(one.category) for one in questions}))
        raise SelectionError(
            f"{len(of_topic)} questions are of {topic!r} and {len(rest)} are not; at least "
            f"{FEWEST} of each are needed. The file has the topics {known}"
        )
    choosing, reported = zip(*(halves(some, most, seed) for some in (of_topic, rest)), strict=True)
    sets = _chosen(laboratory, topic, choosing)
    if not sets[0]:
        raise SelectionError("no feature fires more on its questions than on others")
    yield from _without(laboratory, topic, sets, reported)


def _chosen(
    laboratory: Laboratory, topic: str, choosing: Sequence[list[TwoChoices]]
) -> list[dict[int, float]]:
    """Return the topic's features, and draws of random ones; each with its strongest activation.

    Random ones are alike in the mean length of what they write on the same texts. Features that
    fire on attention sinks are left out: what is done to a sink is done to all text.
    """
    sizes, model, sae = laboratory.sizes, laboratory.model, laboratory.sae
    asked = [one for part in choosing for one in part]

    def measure() -> list[list[tuple[int, float]]]:
        found = activity(model, sae, [render(model, (), one.question, chat=False) for one in asked])
        means = found.means * ~found.at_sinks
        of_topic = [i < len(choosing[0]) for i in range(len(asked))]
        chosen = topic_features(means, of_topic, sizes.topic_features)
        written = (means.mean(0) * sae.W_dec.norm(dim=1).float().cpu()).numpy()
        random = stand_ins(
            np.log(np.maximum(written, 1e-12)),
            chosen,
            sizes.draws,
            np.random.default_rng(laboratory.config.seed),
            usable=written > 0,
        )
        return [
            [(feature, float(found.strongest[feature])) for feature in features]
            for features in (chosen, *random)
        ]

    key = ("topic features", topic, content_hash(asked))
    return [{int(f): float(x) for f, x in one} for one in laboratory.journal.once(key, measure)]


def _without(
    laboratory: Laboratory,
    topic: str,
    sets: Sequence[Mapping[int, float]],
    reported: Sequence[list[TwoChoices]],
) -> Iterator[Row]:
    """Yield what a topic's features do to it and to the rest, set to each value where they fire."""
    sae, sizes = laboratory.sae, laboratory.sizes
    asked = [one for part in reported for one in part]
    texts = neutral_texts()[DAMAGE_TEXTS:][: sizes.texts]
    battery = Battery(laboratory.model, asked, texts, sae.hook_point, "all")
    meter = Damage(laboratory.model, sae.hook_point, max_texts=DAMAGE_TEXTS)

    def scores(values: Mapping[int, float] | None) -> Scores:
        change = None if values is None else where_it_fires(sae, values)
        of = None if values is None else list(values.items())
        key = ("without", battery.name, of)
        found: Scores = laboratory.journal.once(key, lambda: battery(change))
        return found

    def damage(values: Mapping[int, float]) -> float:
        key = ("damage", list(values.items()))
        change = where_it_fires(sae, values)
        return float(laboratory.journal.once(key, lambda: meter(change).mean))

    base = scores(None)
    own = np.arange(len(asked)) < len(reported[0])
    for value in sizes.values:
        say(f"{topic}: features at {value:g}")
        values = [{f: value * x for f, x in strongest.items()} for strongest in sets]
        after = [scores(one) for one in values]
        damages = [damage(one) for one in values]
        for features, some in (("chosen", slice(0, 1)), ("random", slice(1, None))):
            name: Row = {
                "topic": topic,
                "features": features,
                "count": len(sets[0]),
                "clamped_to": value,
                "damage": float(np.mean(damages[some])),
            }
            for measure, before in base.items():
                old, found = np.array(before), stacked(after, measure)
                random = found[:, 1:]
                new, control = (found[:, 0], random) if features == "chosen" else (random, None)
                parts = {"all": np.ones(len(old), bool)}
                if measure != PROSE:
                    parts = {"the topic": own, "the rest": ~own}
                for asked_of, part in parts.items():
                    beside = None if control is None else control[part]
                    row = compared(old[part], new[part], beside, binary=measure in ACCURACIES)
                    yield name | {"asked": asked_of, "measure": measure} | row
                if measure != PROSE:
                    changes = (new.T - old).T
                    beside = None if control is None else control - old[:, None]
                    row = apart(changes, own, beside)
                    yield name | {"asked": "the topic less the rest", "measure": measure} | row
