"""One selection from start to end: the smallest vector that keeps the effect, and its proof.

1. Split the pairs by group: `select` gives the parts, `tune` measures candidates, `report` proves.
2. Calibrate the target: which surrogate ranks unlike vectors as their replies do.
3. Survey what few parts can do: prune samples, features, and both together, pursue the gradient,
   learn gates, and let Optuna tune the knobs around the rankers. All give points of one Pareto
   surface of samples, features and effect. On the way, see whether the target still holds for the
   best so far; where it has changed, measure anew. Then draw its learning curve: how many samples
   would have been enough.
4. Judge the replies of the best few on prompts of `tune` and `select`, and take the smallest that
   holds up; keep the strongest, too.
5. Measure both on `report` and the open questions, beside their controls.

Every measurement goes through the run's journal: the same call after an interruption resumes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.model.hook_points import parse_hook_point
from trimtab.selector.bench import Bench
from trimtab.selector.exploration.explore import Exploration, explore
from trimtab.selector.exploration.finalists import Verdict, choose
from trimtab.selector.exploration.surface import Candidate
from trimtab.selector.journal import Journal
from trimtab.selector.learning_curve import LearningCurve, learning_curve
from trimtab.selector.material import Material, gather
from trimtab.selector.parts import Choice, compose
from trimtab.selector.proof.controls import measure_controls
from trimtab.selector.proof.evaluate import (
    HeldOut,
    Outcome,
    anti_steerable,
    damage_curve,
    measure,
)
from trimtab.selector.target import Ground, Target, choose_target
from trimtab.steering.damage import Damage
from trimtab.steering.generation import render_with_room
from trimtab.steering.judges.classifier import train_classifier
from trimtab.steering.judges.judge import cannot_judge
from trimtab.steering.judges.llm import JudgeEndpoint, llm_judge
from trimtab.store import Store
from trimtab.store.fingerprint import longest_of, prompt_form

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
        target: aim at this instead of letting the run choose; a name in
            `trimtab.selector.surrogates.TARGETS`.
        panel: how many unlike vectors the target is calibrated on.
        poolings: poolings that the search may choose among; the first is pruned.
        shares: of the groups that go to select, tune and report.
        max_new_tokens: length of generated replies.
        judge: a language model that judges replies; without one the text classifier does.
        draws: of every random control.
    """

    seed: int = 0
    budget: float = 0.1
    tolerance: float = 0.95
    trials: int = 24
    target: str | None = None
    panel: int = 24
    poolings: tuple[str, ...] = ("mean", "last")
    shares: tuple[float, float, float] = (0.5, 0.25, 0.25)
    max_new_tokens: int = 32
    judge: JudgeEndpoint | None = None
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
    learning: LearningCurve
    explored: Exploration
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
            pairs kept for the report. Those that are prompts of other pairs are left out. Where the
            samples have next to no prompts, half of the questions is used while choosing.
        settings: what is asked for.
        say: told (stage, steps done, steps in all) as the run goes on.

    Raises:
        SelectionError, PairsError: there are too few samples, or `work` belongs to another run.
        ModelError: a prompt or question leaves no room for a reply.
        VectorError: the dense vector cannot be brought to the damage budget.
        EndpointError: the judge that was asked for cannot be reached or refuses.
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
    say("preparing the measurements", 0, 1)
    bench = _bench(store, model, behavior, material, work, questions, settings)
    for asked in (material.prompts, material.questions):  # told now rather than hours later
        render_with_room(
            model, asked, settings.max_new_tokens, chat=bench.chat, system=bench.system
        )
    if not bench.judge.reliable:
        say(cannot_judge(bench.judge), 0, 0)
    dense = compose(parts, Choice(tuple(range(parts.n_samples))))
    ground = Ground(bench, dense, material.tune, material.prompts, material.select)
    target = choose_target(
        ground,
        parts,
        forced=settings.target,
        count=settings.panel,
        seed=settings.seed,
        say=lambda what: say(what, 0, 0),
    )

    explored = explore(
        target,
        material.pools,
        pooling,
        dense,
        work,
        tolerance=settings.tolerance,
        trials=settings.trials,
        seed=settings.seed,
        say=say,
    )
    target = explored.target

    def effects(kept: tuple[int, ...]) -> NDArray[np.float64]:
        return target.effects(compose(parts, Choice(kept)))

    say("measuring how many samples are needed", 0, 0)
    learning = learning_curve(parts.n_samples, effects, target.groups, seed=settings.seed)
    say("judging the finalists' replies", 0, 0)
    verdict = choose(
        bench,
        material.pools,
        explored.candidates,
        dense,
        target.effect(dense),
        material.prompts,
        material.tune,
        material.select,
        tolerance=settings.tolerance,
    )
    chosen = verdict.chosen
    direction = _direction(material, chosen)

    say("measuring on held-out pairs and questions", 0, 0)
    held_out = HeldOut(
        bench.margin(material.report, longest=bench.longest),
        material.questions,
        Damage(model, bench.hook_point, max_texts=REPORT_TEXTS),
        Damage.on_chats(
            model,
            bench.hook_point,
            positions=bench.positions,
            chat=bench.chat,
            system=bench.system,
        ),
    )
    minimal = measure(bench, held_out, [direction])
    strongest = measure(bench, held_out, [_direction(material, verdict.strongest)])
    controls, absent = measure_controls(
        bench,
        held_out,
        material,
        pooling,
        chosen,
        target.gradient if chosen.towards is None else chosen.towards,
        draws=settings.draws,
        seed=settings.seed,
        say=say,
    )
    say("counting anti-steerable pairs", 0, 0)
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
        learning=learning,
        explored=explored,
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
    hook_point = parse_hook_point(store.fingerprint["hook_point"])
    chat, system = prompt_form(store.fingerprint)
    journal = Journal(work / "journal.jsonl", asked)
    return Bench(
        journal,
        hook_point,
        Damage(model, hook_point, max_texts=SEARCH_TEXTS),
        settings.budget,
        model,
        train_classifier(material.seen, model),
        chat=chat,
        system=system,
        max_new_tokens=settings.max_new_tokens,
        asked=None
        if settings.judge is None
        else llm_judge(settings.judge, behavior, material.select, material.seen, journal.once),
        longest=longest_of(store.fingerprint),
    )


def _direction(material: Material, candidate: Candidate) -> Tensor:
    return compose(material.pools[candidate.pooling], candidate.choice)
