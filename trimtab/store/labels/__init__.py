"""Labels of features from other tools, and what a store holds in their formats. Needs no torch."""

from trimtab.store.labels.ask import label_features
from trimtab.store.labels.export import FORMATS, export_labels
from trimtab.store.labels.take import Taken, import_labels

__all__ = ["FORMATS", "Taken", "export_labels", "import_labels", "label_features"]
