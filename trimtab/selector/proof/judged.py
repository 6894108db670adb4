"""What the judge said of every reply in the proof, beside a second, unlike judge's opinion.

A classifier can be fooled by the very vectors that it helped to choose. The second judge chose
nothing: it is the text classifier of the kind that neither judged nor sorted the model's own
replies.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import cohen_kappa_score

from trimtab.selector.bench import Bench
from trimtab.selector.intervals import Estimate, rate_estimate
from trimtab.selector.material import Material
from trimtab.selector.proof.evaluate import FEW_DRAWS, HeldOut, Outcome
from trimtab.steering.judges.classifier import TextJudge, other_kind, train_classifier
from trimtab.steering.judges.judge import Judge
from trimtab.steering.judges.llm import LLMJudge

COMPARED = ("minimal", "dense_mean_difference", "unsteered")
SCHEMA = {
    "vector": pl.String,
    "draw": pl.Int64,
    "question": pl.String,
    "group": pl.String,  # of the question, for intervals
    "reply": pl.String,
    "judge": pl.Boolean,  # null where the judge's answer was neither yes nor no
    "second": pl.Boolean,
    "prompt": pl.String,  # what a language model was asked, and its answer as it came
    "answer": pl.String,
}


def second_judge(bench: Bench, material: Material) -> Judge:
    """Return the judge that the run's judge is checked by."""
    kind = other_kind(bench.classifier.kind)
    return TextJudge(train_classifier(material.seen, bench.model, kind))


def judged(
    bench: Bench, second: Judge, held_out: HeldOut, outcomes: Mapping[str, Outcome]
) -> pl.DataFrame:
    """Return a row a reply of the proof, with `SCHEMA`'s columns; nothing is generated anew.

    Of a control of many draws, the first few.
    """
    rows, groups = [], held_out.question_groups
    for vector, outcome in outcomes.items():
        every = (outcome.replies, *outcome.more_replies)
        for draw, replies in enumerate(every[:FEW_DRAWS]):
            opinions = second.shows(held_out.questions, replies)
            said: list[dict[str, Any]]
            if isinstance(bench.judge, LLMJudge):
                verdicts = bench.judge.verdicts(held_out.questions, replies)
                said = [
                    {"judge": v.shows, "prompt": v.prompt, "answer": v.answer} for v in verdicts
                ]
            else:
                said = [{"judge": bool(s)} for s in bench.judge.shows(held_out.questions, replies)]
            rows += [
                {
                    "vector": vector,
                    "draw": draw,
                    "question": question[-1]["content"],
                    "group": group,
                    "reply": reply,
                    "second": bool(opinion),
                    **verdict,
                }
                for question, group, reply, opinion, verdict in zip(
                    held_out.questions, groups, replies, opinions, said, strict=True
                )
            ]
    return pl.DataFrame(rows, schema=SCHEMA)


def judge_facts(judge: Judge, table: pl.DataFrame) -> dict[str, Any]:
    """Return what the card says of a judge, and how many of the proof's replies it left unjudged.

    Args:
        judge: the run's judge.
        table: what `judged` made.
    """
    facts: dict[str, Any] = {
        "name": judge.name,
        "accuracy": judge.accuracy,
        "reliable": judge.reliable,
        "way_out": None if judge.reliable else judge.way_out,
        "n_replies": table.height,
        "unjudged": table["judge"].null_count(),
    }
    if isinstance(judge, LLMJudge):
        return facts | {
            "kind": "llm",
            "model": judge.endpoint.model,
            "url": judge.endpoint.url,
            "criterion": judge.question.criterion,
            "measured_on": judge.n_texts,
        }
    if isinstance(judge, TextJudge):
        facts |= {"kind": judge.classifier.kind, "trained_on": judge.classifier.n_texts}
    return facts


def second_opinion(second: Judge, table: pl.DataFrame) -> dict[str, Any]:
    """Return what the card says of the second judge: agreement, and both judges' rates.

    Unjudged replies count neither as agreement nor as disagreement.

    Args:
        second: the second judge.
        table: what `judged` made.
    """
    both = table.drop_nulls("judge")
    return {
        "name": second.name,
        "accuracy": second.accuracy,
        "reliable": second.reliable,
        "n_replies": both.height,
        "agreement": _agreement(both).to_json(),
        "kappa": _kappa(both),
        "rates": {
            vector: {judge: _rate(table, vector, judge) for judge in ("judge", "second")}
            for vector in COMPARED
        },
    }


def _agreement(both: pl.DataFrame) -> Estimate:
    """The share of replies on which both agree, with its interval over questions."""
    agreed = (both["judge"] == both["second"]).to_numpy()
    return rate_estimate(agreed.astype(np.float64), both["group"].to_list())


def _kappa(both: pl.DataFrame) -> float | None:
    """Cohen's kappa; None where both always said the same one thing, which chance would do, too."""
    one, other = both["judge"].to_list(), both["second"].to_list()
    return float(cohen_kappa_score(one, other)) if len({*one, *other}) > 1 else None


def _rate(table: pl.DataFrame, vector: str, judge: str) -> dict[str, Any]:
    said = table.filter(vector=vector)
    shown = said[judge].fill_null(False).cast(pl.Float64).to_numpy()
    return rate_estimate(shown, said["group"].to_list()).to_json()
