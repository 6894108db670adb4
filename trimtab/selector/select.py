"""One selection from start to end: the smallest vector that keeps the effect, and its proof.

1. Split the pairs by group: `select` gives the parts, `tune` measures candidates, `report` proves.
2. Calibrate the target: which surrogate ranks unlike vectors as their replies do.
3. Prune samples, then features, keeping both curves; match few features to the gradient.
4. Prune both together, pursue the gradient, learn gates, and let Optuna tune the knobs around the
   rankers: all give points of one Pareto surface of samples, features and effect.
5. Judge the replies of the best few on prompts of `tune` and `select`, and take the smallest that
   holds up; keep the strongest, too.
6. Measure both on `report` and the open questions, beside their controls.

Every measurement goes through the run's journal: the same call after an interruption resumes.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trimtab.model.hook_points import parse_hook_point
from trimtab.selector.bench import Bench
from trimtab.selector.evaluate import (
    HeldOut,
    Outcome,
    anti_steerable,
    damage_curve,
    measure,
)
from trimtab.selector.finalists import Verdict, choose
from trimtab.selector.journal import Journal
from trimtab.selector.material import Material, gather
from trimtab.selector.objective import Cost, Objective
from trimtab.selector.parts import Choice, compose
from trimtab.selector.proof import measure_controls
from trimtab.selector.search import search
from trimtab.selector.surface import Candidate
from trimtab.selector.survey import Survey, survey
from trimtab.selector.target import Target, TargetName, choose_target
from trimtab.steering.classifier import train_classifier
from trimtab.steering.damage import Damage
from trimtab.steering.margin import Margin
from trimtab.store import Store
from trimtab.store.fingerprint import prompt_form

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

SEARCH_TEXTS = 16  # neutral texts of the search's damage meter, and of the report's
REPORT_TEXTS = 48


@dataclass(frozen=True)
class Settings:
    """What a run can be asked for.

    Attributes:
        seed: of splits, random controls and the search.
        budget: damage that every vector is scaled to, KL in nats per token on neutral text.
        tolerance: share of what the dense vector does that must be kept.
        trials: of the Optuna study; 0 leaves it out.
        target: force a surrogate instead of letting the run choose.
        poolings: poolings that the search may choose among; the first is pruned.
        shares: of the groups that go to select, tune and report.
        max_new_tokens: length of generated replies.
        draws: of every random control.
    """

    seed: int = 0
    budget: float = 0.1
    tolerance: float = 0.95
    trials: int = 24
    target: TargetName | None = None
    poolings: tuple[str, ...] = ("mean", "last")
    shares: tuple[float, float, float] = (0.5, 0.25, 0.25)
    max_new_tokens: int = 32
    draws: int = 20


DEFAULTS = Settings()


@dataclass(frozen=True, eq=False)
class Selection:
    """All that a run found, ready to be exported."""

    behavior: str
    settings: Settings
    material: Material
    bench: Bench
    target: Target
    survey: Survey
    cost: dict[str, dict[str, int]]
    verdict: Verdict
    chosen: Candidate
    direction: Tensor
    held_out: HeldOut
    minimal: Outcome
    strongest: Outcome
    controls: dict[str, Outcome]
    absent: dict[str, str]
    anti_steerable: dict[str, Any]
    damage_curve: tuple[tuple[float, float], ...]
    seconds: float


Say = Callable[[str, int, int], None]


def select(
    store: Store,
    model: "LanguageModel",
    sae: "SAE | None",
    behavior: str,
    work: Path,
    *,
    questions: Sequence[str] | None = None,
    settings: Settings = DEFAULTS,
    say: Say = lambda *_: None,
) -> Selection:
    """Find and prove the minimal steering vector of one behaviour of a store.

    Args:
        store: holds the behaviour's samples.
        model: the store's model, in float32.
        sae: the store's SAE; None selects samples of the dense vector.
        behavior: which behaviour.
        work: folder of the run's journal and study; a run that was interrupted resumes from it.
        questions: held-out open questions for the behaviour rate; None takes the prompts of the
            pairs kept for the report. Those that are prompts of other pairs are left out.
        settings: what is asked for.
        say: told (stage, steps done, steps in all) as the run goes on.

    Raises:
        SelectionError, PairsError: there are too few samples, or `work` belongs to another run.
        VectorError: the dense vector cannot be brought to the damage budget.
    """
    started = time.monotonic()
    material = gather(
        store,
        sae,
        behavior,
        questions=questions,
        poolings=settings.poolings,
        shares=settings.shares,
        seed=settings.seed,
    )
    pooling = settings.poolings[0]
    parts = material.pools[pooling]
    say("preparing the bench", 0, 1)
    bench = _bench(store, model, behavior, material, work, questions, settings)
    conversations = [sample.messages for sample in material.tune if sample.messages]
    target = choose_target(
        bench,
        parts,
        list(material.tune),
        conversations,
        forced=settings.target,
        seed=settings.seed,
        say=lambda what: say(what, 0, 0),
    )

    objective = _objective(bench, material, target)
    dense = compose(parts, Choice(tuple(range(parts.n_samples))))
    dense_effect = objective.effect(dense)
    found = survey(
        objective,
        pooling,
        dense_effect,
        tolerance=settings.tolerance,
        seed=settings.seed,
        say=say,
    )
    searched = search(
        material.pools,
        target.gradient,
        lambda pooling, choice: objective.effect(compose(material.pools[pooling], choice)),
        work / "study.journal",
        trials=settings.trials,
        seed=settings.seed,
        say=lambda done, trials: say("searching", done, trials),
    )
    objective.cost["search"] = Cost(effects=len(searched))  # a resumed study asks for fewer
    found = replace(found, candidates=(*found.candidates, *searched))
    say("judging the finalists' replies", 0, 0)
    verdict = choose(
        bench,
        material.pools,
        found.candidates,
        dense,
        dense_effect,
        material.tune,
        material.select,
        tolerance=settings.tolerance,
    )
    chosen = verdict.chosen
    direction = _direction(material, chosen)

    say("measuring on held-out pairs and questions", 0, 0)
    held_out = HeldOut(
        Margin(
            model,
            material.report,
            bench.hook_point,
            positions=bench.positions,
            chat=bench.chat,
            system=bench.system,
        ),
        material.questions,
        Damage(model, bench.hook_point, max_texts=REPORT_TEXTS),
    )
    minimal = measure(bench, held_out, [direction])
    strongest = measure(bench, held_out, [_direction(material, verdict.strongest)])
    controls, absent = measure_controls(
        bench,
        held_out,
        material,
        pooling,
        chosen,
        target.gradient,
        draws=settings.draws,
        seed=settings.seed,
        say=say,
    )
    say("anti-steerable pairs", 0, 0)
    anti = {
        "before": anti_steerable(bench, held_out, dense).to_json(),
        "after": anti_steerable(bench, held_out, direction).to_json(),
    }
    return Selection(
        behavior=behavior,
        settings=settings,
        material=material,
        bench=bench,
        target=target,
        survey=found,
        cost={method: asdict(cost) for method, cost in objective.cost.items()},
        verdict=verdict,
        chosen=chosen,
        direction=direction,
        held_out=held_out,
        minimal=minimal,
        strongest=strongest,
        controls=controls,
        absent=absent,
        anti_steerable=anti,
        damage_curve=tuple(damage_curve(bench, held_out, direction)),
        seconds=time.monotonic() - started,
    )


def _bench(
    store: Store,
    model: "LanguageModel",
    behavior: str,
    material: Material,
    work: Path,
    questions: Sequence[str] | None,
    settings: Settings,
) -> Bench:
    asked = {
        "behavior": behavior,
        "store": store.content_hash,
        "questions": None if questions is None else list(questions),
        **asdict(settings),
    }
    by_id = {sample.id: sample for sample in material.samples}
    judged_by = [by_id[i] for i in (*material.splits.select, *material.splits.tune)]
    hook_point = parse_hook_point(store.fingerprint["hook_point"])
    chat, system = prompt_form(store.fingerprint)
    journal = Journal(work / "journal.jsonl", asked)
    return Bench(
        model,
        hook_point,
        Damage(model, hook_point, max_texts=SEARCH_TEXTS),
        settings.budget,
        train_classifier(judged_by, model),
        journal,
        chat=chat,
        system=system,
        max_new_tokens=settings.max_new_tokens,
    )


def _objective(bench: Bench, material: Material, target: Target) -> Objective:
    """Return what the methods of selection maximise; every gradient goes through the journal."""

    def slope(added: Tensor) -> Tensor:
        digest = hashlib.sha256(added.numpy().tobytes()).hexdigest()[:24]
        found: list[float] = bench.journal.once(
            ("gradient at", target.name, digest), lambda: target.margin.gradient(added).tolist()
        )
        return torch.tensor(found)

    return Objective(
        material.pools,
        target.gradient,
        lambda direction: target.effect(bench, direction),
        lambda direction: bench.calibrate(direction).multiplier,
        slope,
    )


def _direction(material: Material, candidate: Candidate) -> Tensor:
    return compose(material.pools[candidate.pooling], candidate.choice)
