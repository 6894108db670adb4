"""Places in a store's texts where features fire, and where they do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import polars as pl

from trimtab.store import Store

Place = tuple[str, str, int]  # sample, side, position

WINDOW = 8  # tokens before the one on which a feature fires; none after: it cannot know them


@dataclass(frozen=True)
class Contexts:
    """Of one feature: texts that end where it fires, and texts in which it fires nowhere.

    Attributes:
        feature: which one.
        active: texts that end with the token on which it is strongest.
        silent: as many others, fewer where it fires nearly everywhere.
        nexts: the token after each of `active`.
    """

    feature: int
    active: tuple[str, ...]
    silent: tuple[str, ...]
    nexts: tuple[str, ...]


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
    shuffled = np.random.default_rng(seed).permutation(len(places))
    where = store.sql(
        "SELECT feature, sample_id, side, position FROM activations "
        "WHERE side <> 'prompt' AND feature IN (SELECT unnest(?))",
        [list(features)],
    )
    fires = {
        key: set(zip(*(f[c].to_list() for c in f.columns[1:]), strict=True))
        for (key,), f in where.partition_by("feature", as_dict=True).items()
    }

    def window(sample_id: str, side: str, position: int) -> list[Place]:
        positions, _ = texts[sample_id, side]
        end = positions.index(position) + 1
        return [(sample_id, side, p) for p in positions[max(0, end - WINDOW) : end]]

    def shown(place: Place) -> tuple[str, str]:
        """Return the text that ends at a place, and the token after it; "" where it is the last."""
        positions, words = texts[place[:2]]
        end = positions.index(place[2]) + 1
        return "".join(words[max(0, end - WINDOW) : end]), "".join(words[end : end + 1])

    found = []
    for number, feature in enumerate(features):
        own = strongest.filter(pl.col("feature") == feature).head(each)
        active = [shown(place) for place in own.drop("feature").iter_rows()]
        order = np.roll(shuffled, -number * each)  # other places for every feature
        free = (places[i] for i in order)
        quiet = (place for place in free if fires[feature].isdisjoint(window(*place)))
        silent = [shown(place)[0] for place in islice(quiet, len(active))]
        texts_of, nexts = zip(*active, strict=True)
        found.append(Contexts(feature, texts_of, tuple(silent), nexts))
    return found
