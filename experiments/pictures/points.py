"""The points of a picture, a row a side of a sample, and ways to deal their labels out anew.

What was written together is dealt together: a group's samples keep one behaviour, are swapped
between the sides all at once, and share one influence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.stats import rankdata

from trimtab.store import Store

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Words = NDArray[np.str_]

SIDES = """SELECT behavior, sample_id, group_name, side, {what}
    FROM {table} JOIN samples USING (behavior, sample_id)
    WHERE status = 'ok' AND side <> 'prompt' ORDER BY behavior, sample_id, side{further}"""


@dataclass(frozen=True, eq=False)
class Points:
    """Sides of samples, and what each is coloured by.

    Attributes:
        behavior: `(n,)`.
        sample: ids, `(n,)`.
        group: `(n,)`; no two behaviours share one.
        positive: whether it is the positive side, `(n,)`.
        influence: of the group among those of its behaviour, by rank, from 0 to 1, `(n,)`; NaN
            where it is not known.
    """

    behavior: Words
    sample: Words
    group: Words
    positive: Bools
    influence: Floats

    @property
    def behaviors(self) -> list[str]:
        """The behaviours, by name."""
        return [str(name) for name in np.unique(self.behavior)]

    def rows(self, keep: NDArray[np.bool_]) -> "Points":
        """Return some of the points."""
        return Points(*(values[keep] for values in vars(self).values()))


def read_points(
    store: Store, influence: Mapping[tuple[str, str], float]
) -> tuple[Points, dict[str, Floats]]:
    """Return the usable completions of a store, and their rows in each space.

    The spaces are the pooled residual, `(n, d_model)`, and the pooled SAE features that fire in any
    of them, `(n, k)`; both are means over a completion's tokens.

    Args:
        store: holds them.
        influence: of samples, by behaviour and id; those that are not named have none.
    """
    table = store.sql(SIDES.format(what="mean", table="residuals", further=""))
    behavior, sample = (table[name].to_numpy().astype(str) for name in ("behavior", "sample_id"))
    named = zip(table["behavior"], table["group_name"], strict=True)
    group = np.array(["\n".join(pair) for pair in named])
    known = zip(behavior.tolist(), sample.tolist(), strict=True)
    raw = np.array([influence.get(key, np.nan) for key in known])
    points = Points(
        behavior,
        sample,
        group,
        (table["side"] == "positive").to_numpy(),
        _ranked(raw, group, behavior),
    )
    spaces = {"residual": np.stack(table["mean"].to_list())}
    if int(store.fingerprint["d_sae"]):
        keys = ["behavior", "sample_id", "side"]
        stored = store.sql(SIDES.format(what="feature, mean", table="pooled", further=", feature"))
        placed = stored.join(table.select(*keys).with_row_index("row"), on=keys)
        fires, column = np.unique(placed["feature"].to_numpy(), return_inverse=True)
        at = (placed["row"].to_numpy(), column)
        shape = (len(table), len(fires))
        spaces["features"] = coo_array((placed["mean"].to_numpy(), at), shape).toarray()
    return points, {name: rows.astype(np.float64) for name, rows in spaces.items()}


def _ranked(raw: Floats, group: Words, behavior: Words) -> Floats:
    """Return the rank of each point's group in its behaviour, of means over the group."""
    ranks = np.full(len(raw), np.nan)
    table = pl.DataFrame({"behavior": behavior, "group": group, "raw": raw}).filter(
        pl.col("raw").is_not_nan()
    )
    means = table.group_by("behavior", "group", maintain_order=True).agg(pl.col("raw").mean())
    for (_,), some in means.group_by("behavior"):
        share = (rankdata(some["raw"]) - 1) / max(len(some) - 1, 1)
        of_group = dict(zip(some["group"], share, strict=True))
        here = np.isin(group, some["group"].to_list())
        ranks[here] = [of_group[name] for name in group[here]]
    return ranks


def dealt_behaviors(points: Points, rng: np.random.Generator) -> Words:
    """Return behaviours dealt out anew among the groups, `(n,)`."""
    _, first, index = np.unique(points.group, return_index=True, return_inverse=True)
    return rng.permutation(points.behavior[first])[index]


def dealt_sides(points: Points, rng: np.random.Generator) -> Bools:
    """Return sides dealt out anew, `(n,)`: swapped in half of the groups.

    Unpaired texts have no other side; theirs are dealt out anew among their behaviour's.
    """
    names, index = np.unique(points.group, return_inverse=True)
    positive = points.positive ^ (rng.random(len(names)) < 0.5)[index]
    _, of, counts = np.unique(
        np.char.add(np.char.add(points.behavior, "\n"), points.sample),
        return_inverse=True,
        return_counts=True,
    )
    for name in points.behaviors:
        here = points.behavior == name
        if (counts[of][here] == 1).all():
            positive[here] = rng.permutation(points.positive[here])
    return positive


def dealt_influence(points: Points, rng: np.random.Generator) -> Floats:
    """Return influences dealt out anew among the groups of each behaviour, `(n,)`."""
    dealt = np.full(len(points.group), np.nan)
    for name in points.behaviors:
        known = (points.behavior == name) & ~np.isnan(points.influence)
        _, first, index = np.unique(points.group[known], return_index=True, return_inverse=True)
        dealt[known] = rng.permutation(points.influence[known][first])[index]
    return dealt
