"""Labels of other tools, put in the place of the automatic ones."""

from pathlib import Path
from typing import NamedTuple

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import relabel
from trimtab.store.labels import delphi, neuronpedia
from trimtab.store.labels.described import find_described


class Taken(NamedTuple):
    """How many labels were taken, and how many rows of others were passed over."""

    n_labels: int
    n_left_out: int


def import_labels(
    path: str | Path, labels: str | Path, *, source: str | None = None, kind: str | None = None
) -> Taken:
    """Give features the labels of a Neuronpedia export or of a delphi folder.

    Features that it has none of, or an empty one, keep theirs. `label_source` then names the tool,
    the explainer as far as it is known, and the file. No number of a store changes.

    Args:
        path: a store, or an SAE's folder with descriptions of its features.
        labels: an export's file or folder, or delphi's folder of results or of explanations.
        source: whose rows to take: `MODEL/SOURCE` of Neuronpedia, or delphi's module. Without,
            every row must be of the same model and layer as far as the names tell.
        kind: which type of Neuronpedia's explanations to take; the newest of any without.

    Raises:
        ModelError: `labels` cannot be read, is of another SAE, or names a feature that does not
            exist; nothing was changed then.
        StoreError: the store is damaged, or another process builds it.
    """
    target = find_described(Path(path))
    labels = Path(labels)
    files = neuronpedia.export_files(labels)
    folder = delphi.explanations_folder(labels)
    if files:
        read = neuronpedia.read_explanations(files, target, source=source, kind=kind)
    elif folder is None:
        raise ModelError(
            f"{labels} holds no labels: neither JSONL of Neuronpedia's explanations nor delphi's"
            " explanations (.txt)"
        )
    elif kind is not None:
        raise ModelError(f"{folder} is from delphi, whose explanations have no type to choose by")
    else:
        read = delphi.read_explanations(folder, target, source=source)
    target.replace(relabel(target.descriptions, read.table, str(labels)))
    n_labels = int((read.table["label"].str.strip_chars() != "").sum())
    return Taken(n_labels, read.n_left_out)
