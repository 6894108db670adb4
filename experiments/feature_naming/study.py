"""Do names say where a feature fires? Can a feature be found by a text that it fires on?

Descriptions were made on the SAE's corpus; the texts here are the behaviours' completions, which
they never saw. A drawn feature is shown at the places where it is strongest and at as many random
ones where it is silent.

- Detection: how well the likeness of a name to a text (that of `trimtab labels search`) tells the
  two kinds apart; the area under the ROC curve, 0.5 for chance.
- Search: the share of texts for which the feature is among the first ten that are found.
- Promotion: the share of places where the next token is one that the feature promotes through the
  unembedding.

What is compared: the label alone; with the tokens that the feature fires on; with those that it
promotes, too, which is what `search` looks at; with its strongest contexts. The control gives every
feature another one's name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from experiments.checked import Count
from experiments.feature_naming.contexts import Contexts, contexts, draw_features
from experiments.laboratory import Laboratory
from experiments.record import Row, say
from trimtab.errors import SelectionError
from trimtab.model.features.descriptions import AUTOMATIC
from trimtab.model.features.search import by_words, document
from trimtab.selector.intervals import mean_estimate

FIRST = 10  # features that a person looks through


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        features: that are drawn.
        each: places where a feature fires, and as many where it does not.
    """

    features: Count = 400
    each: Count = 5


SIZES = Sizes()

Described = Mapping[str, Any]


def label(row: Described) -> str:
    """The label."""
    return str(row["label"])


def label_and_tokens(row: Described) -> str:
    """The label, and the tokens that the feature fires on."""
    return " ".join([row["label"], row["label"], *(shown["token"] for shown in row["tokens"])])


def all_and_contexts(row: Described) -> str:
    """All that `search` looks at, with the ends of the feature's strongest contexts."""
    ends = (shown["before"][-40:] + shown["token"] for shown in row["contexts"])
    return " ".join([document(row), *ends])


NAMES: dict[str, Callable[[Described], str]] = {
    "label": label,
    "label, tokens": label_and_tokens,
    "label, tokens, promoted": document,
    "label, tokens, promoted, contexts": all_and_contexts,
}


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables.

    Raises:
        SelectionError: the SAE's features have no names.
    """
    sizes, seed = laboratory.sizes, laboratory.config.seed
    store = laboratory.store
    described = store.descriptions().to_dicts()
    if not described:
        raise SelectionError(
            f"{store.path} has no names of features; `trimtab describe` makes them"
        )
    drawn = draw_features(store, sizes.features, sizes.each, seed)
    say(f"{len(drawn)} features, {sizes.each} places each")
    shown = contexts(store, drawn, sizes.each, seed)
    names: list[Row] = []
    features: list[Row] = []
    for name, name_of in NAMES.items():
        say(f"by {name}")
        for shuffled in (False, True):
            order = np.arange(len(described))
            if shuffled:
                order = np.random.default_rng(seed).permutation(len(described))
            known = [name_of(described[i]) for i in order]
            areas, found = _told(known, shown)
            way = f"{name}, of another feature" if shuffled else name
            groups = [str(one.feature) for one in shown]
            names.append(
                {
                    "name": way,
                    "features": len(shown),
                    "detection": mean_estimate(areas, groups),
                    "among_first_ten": mean_estimate(found, groups),
                }
            )
            features += [
                {
                    "feature": one.feature,
                    "label": described[one.feature]["label"],
                    "label_source": described[one.feature]["label_source"],
                    "name": way,
                    "detection": float(area),
                    "among_first_ten": float(share),
                }
                for one, area, share in zip(shown, areas, found, strict=True)
            ]
    return {
        "names": names,
        "features": features,
        "kinds": _kinds(features),
        "promotion": list(_promotion(described, shown, seed)),
    }


def _told(
    known: Sequence[str], shown: Sequence[Contexts]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, a feature, the area under the curve and the share of its texts that find it."""
    texts = [text for one in shown for text in (*one.active, *one.silent)]
    near = by_words(known, texts)
    areas, shares = [], []
    start = 0
    for one in shown:
        end = start + len(one.active) + len(one.silent)
        some = near[:, start:end]
        own = some[one.feature]
        active = np.arange(len(own)) < len(one.active)
        areas.append(roc_auc_score(active, own) if not active.all() else 0.5)
        first = (some > own).sum(0) + (some[: one.feature] == own).sum(0)  # as `search` sorts
        shares.append(((first < FIRST) & (own > 0))[active].mean())
        start = end
    return np.array(areas), np.array(shares)


def _promotion(
    described: Sequence[Described], shown: Sequence[Contexts], seed: int
) -> Iterator[Row]:
    """Yield how often the next token is promoted: by the feature, and by another one."""
    other = np.random.default_rng(seed).permutation(len(described))
    groups = [str(one.feature) for one in shown]
    for whose in ("its own", "another feature's"):
        shares = []
        for one in shown:
            feature = one.feature if whose == "its own" else int(other[one.feature])
            promoted = set(described[feature]["promotes"])
            shares.append(float(np.mean([token in promoted for token in one.nexts])))
        yield {
            "promoted": whose,
            "features": len(shown),
            "share": mean_estimate(np.array(shares), groups),
        }


def _kinds(features: Sequence[Row]) -> list[Row]:
    """Return detection by the kind of label: an automatic one's rule, another one's source."""
    own = [row for row in features if row["name"] == "label"]
    kinds: dict[str, list[Row]] = {}
    for row in own:
        automatic = row["label_source"] == AUTOMATIC
        kind = _kind(row["label"]) if automatic else f"by {row['label_source']}"
        kinds.setdefault(kind, []).append(row)
    return [
        {
            "kind": kind,
            "features": len(rows),
            "detection": mean_estimate(
                np.array([row["detection"] for row in rows]), [str(r["feature"]) for r in rows]
            ),
        }
        for kind, rows in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]


def _kind(text: str) -> str:
    """Return an automatic label's rule; see `trimtab.model.features.labels`."""
    if text.startswith("“"):
        return "one token"
    head = text.split(":")[0].split("“")[0].split("(")[0].strip()
    return head or "other"
