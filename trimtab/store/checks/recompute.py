"""Run stored samples through the model again: are its numbers still those of the store?

The samples are built into a store of their own, which is compared with the one in question and
removed. Batches are others than they were, and so is the rounding.
"""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from trimtab.errors import StoreError
from trimtab.pairs.sample import Sample
from trimtab.store.building.build import build
from trimtab.store.fingerprint import LIBRARIES, check_same, fingerprint, prompt_form
from trimtab.store.store import Store

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

TOLERANCE = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.1}
"""By the model's dtype, how far a sample's residuals or activations may be apart, relative to their
norm. Above rounding, since a feature at its threshold may fire in one run and not in the other."""

NAMES = ("model", "model_revision", "sae")

_RESIDUALS = "SELECT mean, last FROM residuals WHERE behavior = ? AND sample_id = ? ORDER BY side"
_TOKENS = """SELECT side, position, token_id FROM tokens WHERE behavior = ? AND sample_id = ?
    ORDER BY ALL"""
_ACTIVATIONS = """SELECT side, position, feature, value FROM activations
    WHERE behavior = ? AND sample_id = ?"""


class Recomputed(NamedTuple):
    """How far apart the store and the model are, at most over the samples.

    Attributes:
        n_samples: how many were run again.
        residual: largest relative difference of a sample's pooled residuals.
        activations: largest relative difference of a sample's activations; 0 without SAE.
        problems: what is beyond the tolerance; empty when all is well.
    """

    n_samples: int
    residual: float
    activations: float
    problems: list[str]


def recompute(
    store: Store,
    n_samples: int,
    model: "LanguageModel",
    sae: "SAE | None",
    *,
    seed: int = 0,
) -> Recomputed:
    """Run `n_samples` random ones of status "ok" again, or all if there are fewer.

    Raises:
        StoreError: model or SAE are not the store's, with the fields that differ, or there is no
            sample to run.
    """
    from trimtab.model.hook_points import parse_hook_point

    fields = store.fingerprint
    chat, system = prompt_form(fields)
    hook_point = parse_hook_point(fields["hook_point"])
    max_tokens, values = int(fields["max_tokens"]), fields["value_dtype"]
    now = fingerprint(
        model,
        sae,
        hook_point=hook_point,
        chat=chat,
        system=system,
        max_tokens=max_tokens,
        values=values,  # type: ignore[arg-type]
    )
    # Names may differ, since the hashes do not; versions, since what they change is asked here.
    free = {*NAMES, *(name.replace("-", "_") for name in LIBRARIES)}
    check_same(store.path, fields, now | {name: fields[name] for name in free & fields.keys()})
    samples = _draw(store, n_samples, seed)
    with tempfile.TemporaryDirectory(prefix="trimtab-") as folder:
        again = build(
            Path(folder) / "again",
            samples,
            model,
            sae,
            hook_point=hook_point,
            chat=chat,
            system=system,
            max_tokens=max_tokens,
            values=values,  # type: ignore[arg-type]
            progress=False,
        )
        try:
            return _compare(store, again, samples)
        finally:
            again.catalog.close()


def _draw(store: Store, n_samples: int, seed: int) -> list[Sample]:
    usable = store.sql("SELECT behavior, sample_id FROM samples WHERE status = 'ok'").rows()
    if not usable:
        raise StoreError(f"{store.path} has no sample that could be run again")
    drawn = set(random.Random(seed).sample(sorted(usable), min(n_samples, len(usable))))
    return [sample for sample in store.samples() if (sample.behavior, sample.id) in drawn]


def _compare(store: Store, again: Store, samples: list[Sample]) -> Recomputed:
    tolerance = TOLERANCE[store.fingerprint["model_dtype"]]
    largest = {"residuals": 0.0, "activations": 0.0}
    problems = []
    for sample in samples:
        for name, apart in _apart(store, again, [sample.behavior, sample.id]):
            if not apart <= tolerance:
                problems.append(
                    f"{name} of sample {sample.id!r} ({sample.behavior}) differ by {apart:.2g}"
                    if apart < np.inf
                    else f"sample {sample.id!r} ({sample.behavior}) now has different {name}"
                )
            if name in largest:
                largest[name] = max(largest[name], apart)
    return Recomputed(len(samples), largest["residuals"], largest["activations"], problems)


def _apart(store: Store, again: Store, key: list[str]) -> Iterator[tuple[str, float]]:
    """Relative differences of what is stored of a sample; infinite where it is another thing."""
    if not store.sql(_TOKENS, key).equals(again.sql(_TOKENS, key)):
        yield "tokens", np.inf
        return
    stored, now = (
        np.stack([one.sql(_RESIDUALS, key)[c].to_numpy() for c in ("mean", "last")])
        for one in (store, again)
    )
    yield "residuals", _relative(now - stored, stored)
    both = store.sql(_ACTIVATIONS, key).join(
        again.sql(_ACTIVATIONS, key),
        on=["side", "position", "feature"],
        how="full",
        suffix="_now",
    )
    values = both.select(pl.col("value", "value_now").fill_null(0.0)).to_numpy()
    yield "activations", _relative(values[:, 1] - values[:, 0], values[:, 0])


def _relative(difference: np.ndarray, of: np.ndarray) -> float:
    norm = float(np.linalg.norm(difference))
    return norm / float(np.linalg.norm(of)) if norm else 0.0
