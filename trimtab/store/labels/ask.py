"""Labels by a language model behind an endpoint, put in the place of the automatic ones."""

from collections.abc import Callable, Sequence
from pathlib import Path

from trimtab.errors import ModelError
from trimtab.model.endpoint import Connection, Endpoint
from trimtab.model.features.asked_labels import ask_for_labels
from trimtab.model.features.descriptions import relabel
from trimtab.store.labels.described import find_described


def label_features(
    path: str | Path,
    endpoint: Endpoint,
    features: Sequence[int] | None = None,
    *,
    say: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Ask a language model what features stand for, and give them its answers as labels.

    Labels are kept as they come in, so that an interrupted call goes on where it stopped: features
    that the same model labelled at the same place are passed over.

    Args:
        path: a store, or an SAE's folder with descriptions of its features.
        endpoint: where the model is.
        features: which ones; None for all that ever fired.
        say: told (features labelled, features in all).

    Returns:
        How many features got a label.

    Raises:
        ModelError: there are no descriptions, or none of one of the features.
        EndpointError: the endpoint cannot be reached or refuses.
        StoreError: the store is damaged, or another process builds it.
    """
    target = find_described(Path(path))
    if not any(target.descriptions["contexts"].list.len()):
        raise ModelError(
            f"{path} has no contexts from which to name its features;"
            " `trimtab describe` writes them"
        )
    source = f"{endpoint.model} at {endpoint.host}"
    rows = {row["feature"]: row for row in target.descriptions.iter_rows(named=True)}
    for feature in features or ():
        if feature not in rows:
            raise ModelError(f"{path} has no feature {feature}; it has {len(rows)}")
    asked = rows if features is None else {feature: rows[feature] for feature in features}
    left = [r for r in asked.values() if r["contexts"] and r["label_source"] != source]
    connection = Connection(endpoint)
    table, labelled = target.descriptions, 0
    say(0, len(left))
    for labels in ask_for_labels(left, connection.ask):
        table = relabel(table, labels, source)
        target.replace(table)
        labelled += len(labels)
        say(labelled, len(left))
    return labelled
