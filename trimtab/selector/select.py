"""One selection from start to end: the smallest vector that keeps the effect, and its proof.

1. Split the pairs by group: `select` gives the parts, `tune` measures candidates, `report` proves.
2. Calibrate the target: which surrogate ranks unlike vectors as their replies do.
3. Prune samples, then features, keeping both curves.
4. Let Optuna tune the knobs around the rankers.
5. Judge the replies of the best few on the prompts of `tune`, and take the smallest that holds up.
6. Measure it on `report` and the open questions, beside its controls, and export everything.

Every measurement goes through the run's journal: the same call after an interruption resumes.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.model.hook_points import parse_hook_point
from trimtab.pairs import Message, Sample, Splits, split
from trimtab.selector.bench import Bench
from trimtab.selector.controls import control_vectors, examples_to_show, lexical_vector
from trimtab.selector.evaluate import (
    HeldOut,
    Outcome,
    anti_steerable,
    damage_curve,
    measure,
    measure_prompting,
    measure_unsteered,
)
from trimtab.selector.journal import Journal
from trimtab.selector.parts import Choice, Parts, compose, everything
from trimtab.selector.pruning import CurvePoint, prune, sizes_down_from
from trimtab.selector.search import Candidate, choose_features, pareto, search
from trimtab.selector.target import Target, TargetName, choose_target
from trimtab.steering.classifier import train_classifier
from trimtab.steering.damage import Damage
from trimtab.steering.margin import Margin
from trimtab.store import Store

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

SEARCH_TEXTS = 16  # neutral texts of the search's damage meter, and of the report's
REPORT_TEXTS = 48
SMALLEST, STRONGEST = 4, 2  # finalists whose replies are judged
MATCHED_FEATURES = (40, 20, 12, 6)  # sizes at which features are matched on the pruned samples
MAX_PRUNED_FEATURES = 256  # pruning of features starts at no more than these
CURVE_FLOOR = 0.5  # pruning goes on to this share of the full effect, so that curves show the fall
MAX_TUNE = 40  # pairs and prompts that every candidate is measured on
MAX_REPORT = 120  # held-out pairs that the report measures on


@dataclass(frozen=True)
class Settings:
    """What a run can be asked for.

    Attributes:
        seed: of splits, random controls and the search.
        budget: damage that every vector is scaled to, KL in nats per token on neutral text.
        tolerance: share of the dense vector's effect and behaviour rate that must be kept.
        trials: of the Optuna study; 0 leaves it out.
        target: force a surrogate instead of letting the run choose.
        poolings: poolings that the search may choose among; the first is pruned.
        shares: of the groups that go to select, tune and report.
        max_new_tokens: length of generated replies.
    """

    seed: int = 0
    budget: float = 0.1
    tolerance: float = 0.95
    trials: int = 24
    target: TargetName | None = None
    poolings: tuple[str, ...] = ("mean", "last")
    shares: tuple[float, float, float] = (0.5, 0.25, 0.25)
    max_new_tokens: int = 32


DEFAULTS = Settings()


@dataclass(frozen=True, eq=False)
class Selection:
    """All that a run found, ready to be exported."""

    behavior: str
    settings: Settings
    splits: Splits
    samples: tuple[Sample, ...]
    pools: dict[str, Parts]
    bench: Bench
    target: Target
    sample_curve: tuple[CurvePoint, ...]
    feature_curve: tuple[CurvePoint, ...]
    candidates: tuple[Candidate, ...]
    finalists: tuple[dict[str, Any], ...]
    chosen: Candidate
    direction: Tensor
    held_out: HeldOut
    minimal: Outcome
    controls: dict[str, Outcome]
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
            pairs kept for the report.
        settings: what is asked for.
        say: told (stage, steps done, steps in all) as the run goes on.

    Raises:
        SelectionError: there are too few samples, or `work` belongs to another run.
        StoreError: the store was built with another model or SAE.
    """
    started = time.monotonic()
    check_behavior(store, behavior)
    samples = _usable(store, behavior)
    splits = split(samples, settings.seed, settings.shares)
    by_id = {sample.id: sample for sample in samples}
    tune = [by_id[i] for i in splits.tune][:MAX_TUNE]
    report = [by_id[i] for i in splits.report][:MAX_REPORT]
    pools = _pools(store, sae, behavior, splits, settings)
    parts = pools[settings.poolings[0]]
    asked = {
        "behavior": behavior,
        "store": store.content_hash,
        "questions": None if questions is None else list(questions),
        **asdict(settings),
    }
    journal = Journal(work / "journal.jsonl", asked)
    hook_point = parse_hook_point(store.fingerprint["hook_point"])
    chat, system = prompt_form(store)
    say("preparing the bench", 0, 1)
    bench = Bench(
        model,
        hook_point,
        Damage(model, hook_point, max_texts=SEARCH_TEXTS),
        settings.budget,
        train_classifier([by_id[i] for i in (*splits.select, *splits.tune)], model),
        journal,
        chat=chat,
        system=system,
        max_new_tokens=settings.max_new_tokens,
    )
    conversations = [s.messages for s in tune if s.messages]

    target = choose_target(
        bench,
        parts,
        tune,
        conversations,
        forced=settings.target,
        seed=settings.seed,
        say=lambda what: say(what, 0, 0),
    )
    dense = compose(parts, Choice(tuple(range(parts.n_samples))))
    say("pruning samples", 0, 0)
    sample_curve = _prune_samples(bench, target, parts, settings)
    kept = _smallest_that_holds(sample_curve, settings.tolerance)
    feature_curve: list[CurvePoint] = []
    if parts.features is not None:
        say("pruning features", 0, 0)
        feature_curve = _prune_features(bench, target, parts, kept, dense, settings)

    def effect_of(pooling: str, choice: Choice) -> float:
        return target.effect(bench, compose(pools[pooling], choice))

    candidates = _pruned_candidates(settings.poolings[0], sample_curve, feature_curve, kept, parts)
    if parts.features is not None:
        say("matching features", 0, 0)
        candidates += _matched_candidates(bench, target, settings.poolings[0], parts, kept)
    candidates += search(
        pools,
        target.gradient,
        effect_of,
        work / "study.journal",
        trials=settings.trials,
        seed=settings.seed,
        say=lambda done, trials: say("searching", done, trials),
    )
    say("judging the finalists' replies", 0, 0)
    chosen, finalists = _judge(bench, target, pools, candidates, dense, conversations, settings)
    direction = compose(pools[chosen.pooling], chosen.choice)

    say("measuring on held-out pairs and questions", 0, 0)
    asked_questions: list[tuple[Message, ...]] = (
        [s.messages for s in report if s.messages]
        if questions is None
        else [({"role": "user", "content": question},) for question in questions]
    )
    held_out = HeldOut(
        Margin(model, report, hook_point, positions=bench.positions, chat=chat, system=system),
        tuple(asked_questions),
        Damage(model, hook_point, max_texts=REPORT_TEXTS),
    )
    minimal = measure(bench, held_out, [direction])
    controls = _measure_controls(
        bench,
        held_out,
        pools[chosen.pooling],
        chosen.choice,
        [by_id[i] for i in splits.select],
        settings.seed,
        say,
    )
    say("anti-steerable pairs", 0, 0)
    anti = {
        "before": anti_steerable(bench, held_out, dense).to_json(),
        "after": anti_steerable(bench, held_out, direction).to_json(),
    }
    return Selection(
        behavior=behavior,
        settings=settings,
        splits=splits,
        samples=tuple(samples),
        pools=pools,
        bench=bench,
        target=target,
        sample_curve=tuple(sample_curve),
        feature_curve=tuple(feature_curve),
        candidates=tuple(candidates),
        finalists=tuple(finalists),
        chosen=chosen,
        direction=direction,
        held_out=held_out,
        minimal=minimal,
        controls=controls,
        anti_steerable=anti,
        damage_curve=tuple(damage_curve(bench, held_out, direction)),
        seconds=time.monotonic() - started,
    )


def prompt_form(store: Store) -> tuple[bool, str | None]:
    """Return whether the store's prompts went through the chat template, and its system prompt."""
    system = store.fingerprint["system_prompt"]
    return (
        store.fingerprint["prompt_form"] == "chat",
        None if system == "default" else json.loads(system),
    )


def check_behavior(store: Store, behavior: str) -> None:
    """Raise SelectionError where the store has no such behaviour."""
    if behavior not in store.behaviors():
        known = ", ".join(store.behaviors())
        raise SelectionError(f"{store.path} has no behaviour {behavior!r}; it has {known}")


def _usable(store: Store, behavior: str) -> list[Sample]:
    usable = set(store.matrix(behavior).sample_ids)
    return [sample for sample in store.samples(behavior) if sample.id in usable]


def _pools(
    store: Store, sae: "SAE | None", behavior: str, splits: Splits, settings: Settings
) -> dict[str, Parts]:
    decoder = None if sae is None else sae.W_dec.detach().float().cpu()
    pools = {}
    for pooling in settings.poolings:
        rows = store.matrix(behavior, pooling=pooling)  # type: ignore[arg-type]
        index = {sample_id: i for i, sample_id in enumerate(rows.sample_ids)}
        pools[pooling] = Parts(
            tuple(rows.sample_ids),
            rows.residual.float().cpu(),
            None if sae is None or rows.features is None else rows.features.float().cpu(),
            decoder,
        ).rows([index[i] for i in splits.select])
    return pools


def _prune_samples(
    bench: Bench, target: Target, parts: Parts, settings: Settings
) -> list[CurvePoint]:
    full = everything(parts).samples

    def effect(kept: tuple[int, ...]) -> float:
        return target.effect(bench, compose(parts, Choice(kept)))

    return prune(
        parts.residual,
        target.gradient,
        effect,
        sizes_down_from(parts.n_samples),
        full_effect=effect(full),
        tolerance=min(CURVE_FLOOR, settings.tolerance),
    )


def _prune_features(
    bench: Bench,
    target: Target,
    parts: Parts,
    samples: tuple[int, ...],
    dense: Tensor,
    settings: Settings,
) -> list[CurvePoint]:
    assert parts.features is not None and parts.decoder is not None
    mean = parts.features[list(samples)].mean(0)
    fired = mean.nonzero().flatten()
    terms = mean[fired, None] * parts.decoder[fired]

    def effect(kept: tuple[int, ...]) -> float:
        features = tuple(fired[list(kept)].tolist())
        return target.effect(bench, compose(parts, Choice(samples, features)))

    curve = prune(
        terms,
        target.gradient,
        effect,
        sizes_down_from(min(len(fired), MAX_PRUNED_FEATURES)),
        full_effect=target.effect(bench, dense),
        tolerance=min(CURVE_FLOOR, settings.tolerance),
    )
    return [
        CurvePoint(tuple(fired[list(p.kept)].tolist()), p.effect, p.faithfulness) for p in curve
    ]


def _smallest_that_holds(curve: Sequence[CurvePoint], tolerance: float) -> tuple[int, ...]:
    """Return what the last point that keeps the tolerance keeps; the whole where none does."""
    holding = [p for p in curve if p.faithfulness is not None and p.faithfulness >= tolerance]
    return (holding[-1] if holding else curve[0]).kept


def _pruned_candidates(
    pooling: str,
    sample_curve: Sequence[CurvePoint],
    feature_curve: Sequence[CurvePoint],
    samples: tuple[int, ...],
    parts: Parts,
) -> list[Candidate]:
    if parts.features is None:
        return [
            Candidate(pooling, Choice(p.kept), p.effect, f"pruned to {len(p.kept)} samples")
            for p in sample_curve
        ]
    return [
        Candidate(
            pooling,
            Choice(samples, p.kept),
            p.effect,
            f"pruned to {len(samples)} samples, {len(p.kept)} features",
        )
        for p in feature_curve
    ]


def _matched_candidates(
    bench: Bench, target: Target, pooling: str, parts: Parts, samples: tuple[int, ...]
) -> list[Candidate]:
    """Return candidates of few features, matched to the gradient, on the samples that were left."""
    candidates = []
    for count in MATCHED_FEATURES:
        choice = choose_features(
            parts,
            samples,
            target.gradient,
            ranker="pursuit",
            count=count,
            coefficients="matched",
        )
        if choice is not None and choice.features is not None:
            effect = target.effect(bench, compose(parts, choice))
            origin = f"{len(samples)} pruned samples, {len(choice.features)} matched features"
            candidates.append(Candidate(pooling, choice, effect, origin))
    return candidates


def _judge(
    bench: Bench,
    target: Target,
    pools: dict[str, Parts],
    candidates: Sequence[Candidate],
    dense: Tensor,
    conversations: Sequence[tuple[Message, ...]],
    settings: Settings,
) -> tuple[Candidate, list[dict[str, Any]]]:
    """Choose the smallest finalist whose replies show the behaviour as often as the dense vector's.

    Finalists lie on the Pareto front: the smallest few that keep the dense vector's effect, and the
    few with the largest effect. Where no finalist keeps the rate, the one with the highest is
    taken; where the classifier cannot judge, the target's effect decides alone.
    """
    if not candidates:
        raise SelectionError("nothing could be selected: no feature differs between the sides")
    front = pareto(list(candidates))
    floor = settings.tolerance * target.effect(bench, dense)
    keeping = sorted((c for c in front if c.effect >= floor), key=_size)
    strongest = sorted(front, key=lambda c: -c.effect)
    finalists = list(dict.fromkeys(keeping[:SMALLEST] + strongest[:STRONGEST]))
    if not (bench.classifier.reliable and conversations):
        return (keeping or strongest)[0], [_finalist(c, None) for c in finalists]
    rates = {c: bench.rate(compose(pools[c.pooling], c.choice), conversations) for c in finalists}
    rate_floor = settings.tolerance * bench.rate(dense, conversations)
    holding = [c for c in finalists if rates[c] >= rate_floor]
    chosen = (
        min(holding, key=_size) if holding else max(finalists, key=lambda c: (rates[c], -_size(c)))
    )
    return chosen, [_finalist(c, rates[c]) for c in finalists]


def _size(candidate: Candidate) -> float:
    """One number for smallness: doubling the samples weighs as much as doubling the features."""
    samples, features = candidate.size
    return math.log(samples) + math.log(max(features, 1))


def _finalist(candidate: Candidate, rate: float | None) -> dict[str, Any]:
    samples, features = candidate.size
    return {
        "origin": candidate.origin,
        "samples": samples,
        "features": features or None,
        "effect": candidate.effect,
        "behavior_rate": rate,
    }


def _measure_controls(
    bench: Bench,
    held_out: HeldOut,
    parts: Parts,
    choice: Choice,
    samples: Sequence[Sample],
    seed: int,
    say: Say,
) -> dict[str, Outcome]:
    controls = {"unsteered": measure_unsteered(bench, held_out)}
    vectors = control_vectors(parts, choice, seed=seed)
    lexical = lexical_vector(
        bench.model, samples, bench.hook_point, chat=bench.chat, system=bench.system
    )
    if lexical is not None:
        vectors["lexical"] = [lexical]
    for done, (name, directions) in enumerate(vectors.items(), start=1):
        say(f"control: {name.replace('_', ' ')}", done, len(vectors) + 1)
        controls[name] = measure(bench, held_out, directions)
    examples = examples_to_show(samples)
    if examples:
        say("control: prompting", len(vectors) + 1, len(vectors) + 1)
        controls["prompting"] = measure_prompting(bench, held_out, examples)
    return controls
