"""What stands for the behaviour rate, on one behaviour of a store.

    python -m experiments.targets.study runs/store formality --questions Q.jsonl --out runs/targets
    python -m experiments.targets.table runs/targets

1. Split by group: `select` makes vectors, `tune` gives prompts and samples to measure surrogates
   on. The questions are neither's.
2. Let the model write under each of many unlike vectors, at equal damage, to the tuning prompts
   and to the questions; measure every surrogate.
3. On one half of the vectors and the tuning prompts, choose the target as a run does. On the other
   half and the questions, see how the surrogates and that choice rank what the model writes.
4. Let a classifier of the other kind judge all replies again.

Each measurement is journaled, so that an interrupted run resumes. The store must be built with
the model that this loads: the one that the store names.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, cosine_similarity

from experiments.record import say, write_results
from experiments.targets.sizes import FULL, QUICK, Sizes
from experiments.targets.table import FIRST, draw
from experiments.targets.worth import Measured, over_halvings, worth
from trimtab.errors import SelectionError
from trimtab.model.hook_points import parse_hook_point
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.sae import SAE, load_sae
from trimtab.pairs import read_questions
from trimtab.selector.audit.lds import lds
from trimtab.selector.bench import Bench, Conversations
from trimtab.selector.journal import Journal
from trimtab.selector.material import Material, gather
from trimtab.selector.parts import Choice, compose
from trimtab.selector.target import Ground
from trimtab.selector.target.build import ON_REPLIES, joined, on_replies, on_samples
from trimtab.selector.target.choice import first_members
from trimtab.selector.target.panel import assemble
from trimtab.selector.target.standing import said_of
from trimtab.selector.target.trust import trusted_first
from trimtab.steering.damage import Damage
from trimtab.steering.judges.classifier import BehaviorClassifier, Kind, train_classifier
from trimtab.store import Store, open_store
from trimtab.store.fingerprint import prompt_form

SHARES = (0.5, 0.25, 0.25)
BUDGET = 0.1  # nats per token

Row = dict[str, Any]
Say = Callable[[str], None]


def study(
    store: Store,
    behavior: str,
    model: LanguageModel,
    sae: SAE | None,
    out: Path,
    *,
    questions: Sequence[str] | None = None,
    sizes: Sizes = FULL,
    seed: int = 0,
    say: Say = lambda _: None,
) -> None:
    """Measure everything, and write the tables into `out`.

    Raises:
        SelectionError: there is no such behaviour, its replies cannot be judged, or `out` holds a
            run with other settings.
    """
    settings = {
        "store": store.content_hash,
        "behavior": behavior,
        "asked": None if questions is None else list(questions),
        "seed": seed,
        "budget": BUDGET,
        "shares": SHARES,
        **asdict(sizes),
    }
    journal = Journal(out / "journal.jsonl", settings)
    material = gather(
        store, sae, behavior, questions=questions, poolings=("mean",), shares=SHARES, seed=seed
    )
    begun = time.process_time()
    bench, other = _bench(store, model, material, journal, sizes)
    parts = material.pools["mean"]
    dense = compose(parts, Choice(tuple(range(parts.n_samples))))
    ground = Ground(
        bench,
        dense,
        material.tune[: sizes.prompts],
        material.prompts[: sizes.prompts],
        material.select,
    )
    if not ground.can_judge:
        raise SelectionError(
            f"the replies to {behavior} cannot be judged: the classifier's accuracy is "
            f"{bench.classifier.accuracy:.2f}; take a behaviour whose completions it can tell apart"
        )
    asked = material.questions[: sizes.questions]
    say("letting the model write its own replies")
    first = joined(on_samples(ground), on_replies(ground, [dense]))
    members = first_members(ground, parts, first, count=sizes.vectors, seed=seed, say=say)
    order = np.random.default_rng(seed).permutation(len(members))
    half = sorted(order[: len(members) // 2].tolist())
    panel = assemble(ground, [members[i] for i in half], first, members[0], say)
    said = said_of(members, panel.surrogates, say)
    before = {}
    if panel.written is not members[0]:
        anew = [surrogate for surrogate in first if surrogate.name in ON_REPLIES]
        before = {n + FIRST: one.effects for n, one in said_of(members, anew, say).items()}

    effects = {name: one.effects for name, one in said.items()} | before
    replies: list[Row] = []
    vectors: list[Row] = []
    answers: list[NDArray[np.bool_]] = []
    for name, direction in [("unsteered", None), *((m.name, m.direction) for m in members)]:
        say(f"what it answers: {name}")
        answers.append(_read(bench, other, name, direction, ground.conversations, asked, replies))
    for i, member in enumerate(members):
        vectors.append(
            {
                "vector": member.name,
                "half": "calibration" if i in half else "held out",
                "multiplier": bench.calibrate(member.direction).multiplier,
                "cosine_to_dense": float(cosine_similarity(member.direction, dense, dim=0)),
                "rate_tune": member.rate,
                "rate": float(answers[i + 1][0].mean()),
                "rate_other_judge": float(answers[i + 1][1].mean()),
                **{name: float(values[i]) for name, values in effects.items()},
            }
        )
    measured = Measured(
        said,
        np.array([m.shown for m in members], dtype=float),
        np.array([one for one, _ in answers[1:]], dtype=float),
        np.array([two for _, two in answers[1:]], dtype=float),
        ground.prompt_groups,
    )
    rest = np.setdiff1d(np.arange(len(members)), half)
    rows, standing = worth(measured.rows(np.array(half)), measured.rows(rest))
    tables = {
        "vectors": vectors,
        "replies": replies,
        "correlations": rows,
        "all_vectors": _over_all(measured, effects),
        "halvings": over_halvings(measured, sizes.halvings, seed),
        "judges": [_agreement(bench.classifier, other, replies, measured)],
    }
    config = {
        "settings": settings,
        "vectors": len(members),
        "unsteered_rate": float(answers[0][0].mean()),
        "own_replies_under": panel.written.name,
        "chosen": trusted_first(standing),
        "mixture": standing.weights,
        "model": model.fingerprint(),
        "sae": None if sae is None else sae.fingerprint(),
        "cpu_seconds": time.process_time() - begun,
    }
    write_results(out, tables, config)


def _bench(
    store: Store, model: LanguageModel, material: Material, journal: Journal, sizes: Sizes
) -> tuple[Bench, BehaviorClassifier]:
    """Return the bench as a run has it, and a classifier of the other kind."""
    by_id = {sample.id: sample for sample in material.samples}
    judged_by = [by_id[i] for i in (*material.splits.select, *material.splits.tune)]
    point = parse_hook_point(store.fingerprint["hook_point"])
    chat, system = prompt_form(store.fingerprint)
    classifier = train_classifier(judged_by, model)
    (kind,) = set(get_args(Kind)) - {classifier.kind}
    bench = Bench(
        journal,
        point,
        Damage(model, point, max_texts=sizes.damage_texts),
        BUDGET,
        model,
        classifier,
        chat=chat,
        system=system,
        max_new_tokens=sizes.tokens,
    )
    return bench, train_classifier(judged_by, model, kind)


def _read(
    bench: Bench,
    other: BehaviorClassifier,
    name: str,
    direction: Tensor | None,
    prompts: Conversations,
    questions: Conversations,
    replies: list[Row],
) -> NDArray[np.bool_]:
    """Return what both judges find in the answers to the questions, `(2, n_questions)`.

    Every reply, those to the tuning prompts too, is added to `replies` with both probabilities.
    """
    multiplier = 0.0 if direction is None else bench.calibrate(direction).multiplier
    judged = np.zeros((2, 0))
    for asked_of, conversations in (("tune", prompts), ("questions", questions)):
        texts = bench.replies(direction, conversations, multiplier)
        judged = np.array(
            [
                bench.journal.once(
                    ("probability", judge.kind, texts),
                    lambda judge=judge, texts=texts: judge.probability(texts).tolist(),  # type: ignore[misc]
                )
                for judge in (bench.classifier, other)
            ]
        )
        replies += [
            {
                "vector": name,
                "asked": asked_of,
                "prompt": conversation[-1]["content"],
                "reply": text,
                "probability": one,
                "probability_other_judge": two,
            }
            for conversation, text, one, two in zip(conversations, texts, *judged, strict=True)
        ]
    shown: NDArray[np.bool_] = judged > 0.5
    return shown


def _over_all(measured: Measured, effects: dict[str, NDArray[np.float64]]) -> list[Row]:
    """Return a row a surrogate that is not fitted: its correlation over all vectors."""
    return [
        {
            "surrogate": name,
            "held_out": lds(values, measured.questions),
            "held_out_other_judge": lds(values, measured.other),
            "tune": lds(values, measured.tune),
        }
        for name, values in effects.items()
    ]


def _agreement(
    classifier: BehaviorClassifier,
    other: BehaviorClassifier,
    replies: list[Row],
    measured: Measured,
) -> Row:
    """Return how far two unlike judges agree on all replies, and on the vectors' rates."""
    one = np.array([row["probability"] for row in replies]) > 0.5
    two = np.array([row["probability_other_judge"] for row in replies]) > 0.5
    return {
        "judge": classifier.kind,
        "accuracy": classifier.accuracy,
        "other": other.kind,
        "other_accuracy": other.accuracy,
        "replies": len(replies),
        "agreement": float((one == two).mean()),
        "kappa": float(cohen_kappa_score(one, two)),
        "rates": lds(measured.other.mean(1), measured.questions),
    }


def main(
    store: Annotated[Path, typer.Argument(help="A store of pairs.", show_default=False)],
    behavior: Annotated[str, typer.Argument(help="One of its behaviours.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    questions: Annotated[
        Path | None, typer.Option(help="Held-out questions; prompts of held-out pairs else.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes for a CPU.")] = False,
    seed: Annotated[int, typer.Option(help="Of splits, vectors and halves.")] = 0,
) -> None:
    """Measure what stands for the behaviour rate, with the model that the store names."""
    opened = open_store(store)
    names: dict[str, Any] = opened.fingerprint
    asked = None if questions is None else read_questions(questions)
    model = load_model(names["model"], dtype="float32", revision=names["model_revision"] or None)
    sae = load_sae(names["sae"], model)
    sizes = QUICK if quick else FULL
    study(opened, behavior, model, sae, out, questions=asked, sizes=sizes, seed=seed, say=say)
    typer.echo(draw(out))


if __name__ == "__main__":
    typer.run(main)
