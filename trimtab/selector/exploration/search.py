"""Optuna over the few knobs around the rankers, on effect, samples and features at once.

It never searches masks: which parts are kept is the rankers' word; Optuna asks how many, ranked by
what, pooled how, and with which coefficients. The study lies in a journal file and resumes.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.exploration.ranked import choose_by_knobs
from trimtab.selector.exploration.surface import Candidate
from trimtab.selector.parts import Choice, Parts
from trimtab.selector.rankers import FEATURE_RANKERS, SAMPLE_RANKERS

MAX_FEATURES = 64
SEED_STRIDE = 1_000_003  # between trials' seeds, so that runs of nearby seeds share none
LARGEST_SHARE = 0.25  # of the samples: beyond it nothing is minimal


def search(
    pools: Mapping[str, Parts],
    gradient: Tensor,
    measure: Callable[[str, Choice], float],
    study_file: Path,
    *,
    trials: int,
    seed: int,
    say: Callable[[int, int], None] = lambda *_: None,
) -> list[Candidate]:
    """Return every candidate that a study's first `trials` trials measured, resuming its file.

    Args:
        pools: the parts to choose from, by pooling.
        gradient: `(d_model,)` of the target's effect.
        measure: effect of a (pooling, choice) on the target at equal damage.
        study_file: Optuna's journal; made when it is missing.
        trials: how many trials the study has so far.
        seed: of the sampler.
        say: told (trials done, trials in all) after each.
    """
    any_parts = next(iter(pools.values()))
    most_samples = max(1, round(LARGEST_SHARE * any_parts.n_samples))
    has_features = any_parts.features is not None

    def suggest(trial: optuna.Trial) -> dict[str, str | int]:
        knobs: dict[str, str | int] = {
            "pooling": trial.suggest_categorical("pooling", sorted(pools)),
            "sample_ranker": trial.suggest_categorical("sample_ranker", _serious(SAMPLE_RANKERS)),
            "samples": trial.suggest_int("samples", 1, most_samples, log=True),
        }
        if has_features:
            rankers = _serious(FEATURE_RANKERS)
            knobs["feature_ranker"] = trial.suggest_categorical("feature_ranker", rankers)
            knobs["features"] = trial.suggest_int("features", 1, MAX_FEATURES, log=True)
            knobs["coefficients"] = trial.suggest_categorical("coefficients", ["mean", "matched"])
            knobs["samples_for"] = trial.suggest_categorical("samples_for", ["all", "features"])
        return knobs

    def objective(trial: optuna.Trial) -> tuple[float, int, int]:
        knobs = suggest(trial)
        choice = choose_by_knobs(pools, gradient, knobs)
        if choice is None:
            raise optuna.TrialPruned
        try:
            effect = measure(str(knobs["pooling"]), choice)
        except VectorError as error:  # no multiplier brings it to the damage budget
            raise optuna.TrialPruned(str(error)) from error
        kept = 0 if choice.features is None else len(choice.features)
        trial.set_user_attr("choice", [list(choice.samples), choice.features, choice.coefficients])
        return effect, len(choice.samples), kept

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _drop_half_line(study_file)
    study = optuna.create_study(
        study_name="selection",
        storage=JournalStorage(JournalFileBackend(str(study_file))),
        directions=["maximize", "minimize", "minimize"],
        load_if_exists=True,
    )
    guesses = _first_guesses(next(iter(pools)), most_samples, has_features)
    for number in range(len(_finished(study)), trials):
        # Seeded anew for each trial, so that a resumed study goes the way of an unbroken one.
        study.sampler = TPESampler(
            seed=seed + SEED_STRIDE * number, n_startup_trials=max(4, trials // 3)
        )
        if number < len(guesses):
            study.enqueue_trial(guesses[number])
        study.optimize(objective, n_trials=1)
        say(number + 1, trials)
    candidates = []
    for number, trial in enumerate(_finished(study)[:trials]):
        if trial.state == TrialState.PRUNED:
            continue
        assert trial.values is not None
        samples, features, coefficients = trial.user_attrs["choice"]
        choice = Choice(
            tuple(samples),
            None if features is None else tuple(features),
            None if coefficients is None else tuple(coefficients),
        )
        candidates.append(
            Candidate(
                trial.params["pooling"],
                choice,
                trial.values[0],
                f"trial {number}",
                "search",
                None if coefficients is None else gradient,
            )
        )
    return candidates


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that ran to their end; one that was interrupted counts for nothing."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _drop_half_line(study_file: Path) -> None:
    """Cut off a last line that a kill left unfinished: the next one would be written behind it."""
    if study_file.exists():
        os.truncate(study_file, study_file.read_bytes().rfind(b"\n") + 1)


def _serious(rankers: Mapping[str, object]) -> list[str]:
    return [name for name in rankers if name != "random"]


def _first_guesses(pooling: str, most: int, has_features: bool) -> list[dict[str, str | int]]:
    """Return knobs worth a trial before the sampler knows anything."""
    guesses: list[dict[str, str | int]] = []
    for ranker in ("influence", "cosine"):
        for share in (0.2, 0.5):
            knobs: dict[str, str | int] = {
                "pooling": pooling,
                "sample_ranker": ranker,
                "samples": max(1, round(share * most)),
            }
            if has_features:
                knobs |= {"feature_ranker": "pursuit", "features": 20, "coefficients": "matched"}
                knobs["samples_for"] = "all" if ranker == "influence" else "features"
            guesses.append(knobs)
    return guesses
