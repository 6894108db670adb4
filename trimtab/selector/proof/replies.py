"""What the model wrote under each vector, and how the judge took it, as one table."""

from collections.abc import Mapping

import polars as pl

from trimtab.selector.bench import Bench
from trimtab.selector.proof.evaluate import HeldOut, Outcome


def replies_table(bench: Bench, held_out: HeldOut, outcomes: Mapping[str, Outcome]) -> pl.DataFrame:
    """Return a row a (vector, question): the reply, and the probability that it shows it."""
    questions = [messages[-1]["content"] for messages in held_out.questions]
    return pl.DataFrame(
        [
            {"vector": name, "question": question, "reply": reply, "probability": float(p)}
            for name, outcome in outcomes.items()
            for question, reply, p in zip(
                questions,
                outcome.replies,
                bench.classifier.probability(list(outcome.replies)),
                strict=True,
            )
        ],
        schema={
            "vector": pl.String,
            "question": pl.String,
            "reply": pl.String,
            "probability": pl.Float64,
        },
    )
