"""Places in a store's texts where features fire, and where they do not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from trimtab.store import Store

WINDOW = 8  # tokens before the one on which a feature fires; none after: it cannot know them


@dataclass(frozen=True)
class Contexts:
    """Of one feature: texts that end where it fires, and as many that end where it does not."""

    feature: int
    active: tuple[str, ...]
    silent: tuple[str, ...]


def draw_features(store: Store, count: int, each: int, seed: int) -> list[int]:
    """Draw features that fire in at least `each` samples' completions."""
    fire = store.sql(
        "SELECT feature FROM activations WHERE side <> 'prompt' GROUP BY feature "
        "HAVING count(DISTINCT sample_id) >= ? ORDER BY feature",
        [each],
    )["feature"].to_list()
    drawn = np.random.default_rng(seed).permutation(len(fire))[:count]
    return sorted(fire[i] for i in drawn)


def contexts(store: Store, features: Sequence[int], each: int, seed: int) -> list[Contexts]:
    """Return where features are strongest, once a sample, beside random places of completions.

    Args:
        store: of texts that the features' descriptions never saw.
        features: which ones.
        each: how many places of either kind.
        seed: of the random places.
    """
    strongest = store.sql(
        "SELECT feature, sample_id, side, position FROM activations "
        "WHERE side <> 'prompt' AND feature IN (SELECT unnest(?)) "
        "QUALIFY row_number() OVER (PARTITION BY feature, sample_id ORDER BY value DESC) = 1 "
        "AND value > 0 ORDER BY feature, value DESC",
        [list(features)],
    )
    tokens = store.sql(
        "SELECT sample_id, side, position, text FROM tokens WHERE side <> 'prompt' "
        "ORDER BY sample_id, side, position"
    )
    texts = {
        key: (frame["position"].to_list(), frame["text"].to_list())
        for key, frame in tokens.partition_by("sample_id", "side", as_dict=True).items()
    }
    places = [(*key, position) for key, (positions, _) in texts.items() for position in positions]
    where = store.sql(
        "SELECT feature, sample_id, side, position FROM activations "
        "WHERE side <> 'prompt' AND feature IN (SELECT unnest(?))",
        [list(features)],
    )
    fires = {
        key: set(zip(*(f[c].to_list() for c in f.columns[1:]), strict=True))
        for (key,), f in where.partition_by("feature", as_dict=True).items()
    }

    def shown(sample_id: str, side: str, position: int) -> str:
        positions, words = texts[sample_id, side]
        end = positions.index(position) + 1
        return "".join(words[max(0, end - WINDOW) : end])

    found = []
    generator = np.random.default_rng(seed)
    for feature in features:
        own = strongest.filter(pl.col("feature") == feature).head(each)
        active = [shown(*place) for place in own.drop("feature").iter_rows()]
        silent: list[str] = []
        while len(silent) < len(active):
            place = places[generator.integers(len(places))]
            if place not in fires[feature]:
                silent.append(shown(*place))
        found.append(Contexts(feature, tuple(active), tuple(silent)))
    return found
