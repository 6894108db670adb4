"""Can a pair's usefulness be predicted from its features alone? On pairs and behaviours never seen.

Every behaviour's usefulness is measured once; then models that saw none of a pair's group, and
models that saw none of its behaviour, predict it. Beside the rank correlations stand the effects of
the vectors of the best k pairs and of k random ones, at equal damage on pairs that had no part in
either. Each measurement is journaled.
"""

from pathlib import Path

from experiments.record import say, write_results
from trimtab.selector.journal import Journal
from trimtab.selector.learned.model import WAYS
from trimtab.selector.learned.training import measure_training
from trimtab.selector.learned.validation import (
    predictions,
    predictions_across,
    rank_correlation,
    top_against_random,
)
from trimtab.selector.loading import load_for
from trimtab.selector.scales import scales_of
from trimtab.store import Store

BUDGET = 0.1  # nats per token


def study(store: Store, out: Path, *, seed: int = 0) -> None:
    """Measure and predict every behaviour of a store, and write the table into `out`.

    Raises:
        SelectionError: a behaviour is of unpaired texts, or its pairs are too few.
        PairsError, ModelError, VectorError: as the parts say.
    """
    model, sae = load_for(store)
    settings = {"store": store.content_hash, "seed": seed, "budget": BUDGET}
    journal = Journal(out / "journal.jsonl", settings)
    scales, make_margin = scales_of(store, model, journal, BUDGET)
    measured = {}
    for behavior in store.behaviors():
        say(f"how useful the pairs of {behavior} are")
        measured[behavior] = measure_training(store, sae, behavior, scales, make_margin, seed=seed)
    trainings = {behavior: one.training for behavior, one in measured.items()}
    rows = []
    for way in WAYS:
        unseen = predictions_across(trainings, way)
        for behavior, one in measured.items():
            training = one.training
            k = max(4, len(training) // 8)
            for seen, predicted in (
                ("other pairs", predictions(training, way)),
                ("other behaviours", unseen[behavior]),
            ):
                say(f"{behavior}: {way}, from {seen}")
                correlation = rank_correlation(predicted, training.usefulness, training.groups)
                top = top_against_random(
                    training.parts, predicted, k, one.effects, one.groups, seed=seed
                )
                rows.append(
                    {
                        "behavior": behavior,
                        "way": way,
                        "learnt_from": seen,
                        "n": len(training),
                        "k": top.k,
                        "spearman": correlation,
                        "beyond_random": top.beyond,
                    }
                )
    config = {"settings": settings, "model": model.fingerprint()}
    write_results(out, {"predictions": rows}, config)
