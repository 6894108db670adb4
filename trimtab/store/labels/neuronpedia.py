"""Labels out of Neuronpedia's exports: `explanations*/batch-N.jsonl.gz`, a row an explanation.

Rows have `modelId`, `layer` (the source, such as `20-gemmascope-res-16k`), `index` (the feature, as
text), `description`, and mostly `typeName`, `explanationModelName` and `createdAt`.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from trimtab.errors import ModelError
from trimtab.store.labels.described import Described
from trimtab.store.labels.labels import Labels, label_table


class _Explanation(NamedTuple):
    created: datetime
    label: str
    source: str


def export_files(path: Path) -> list[Path]:
    """Return the files of explanations at `path`: itself, in it, or in `explanations*` in it."""
    if path.is_file():
        return [path]
    here = sorted(path.glob("*.jsonl*")) or sorted(path.glob("explanations*/*.jsonl*"))
    return [file for file in here if file.name.endswith((".jsonl", ".jsonl.gz"))]


def read_explanations(
    files: Sequence[Path], target: Described, *, source: str | None, kind: str | None
) -> Labels:
    """Read the newest explanation of each feature.

    Args:
        files: JSONL, gzipped or not.
        target: whose features are meant; rows of another model or layer are refused.
        source: take only rows of this `MODEL/SOURCE`, whatever the target is called.
        kind: take only explanations of this `typeName`, such as `np_max-act-logits`.

    Raises:
        ModelError: a file or a row cannot be read, is of another SAE, or of a feature that does not
            exist; the message names file and line.
    """
    source = source or target.neuronpedia or None
    chosen: dict[int, _Explanation] = {}
    n_left_out, others = 0, set()
    for file in files:
        for where, row in _rows(file):
            name = f"{_text(row, 'modelId', where)}/{_text(row, 'layer', where)}"
            found = row.get("typeName")
            if source not in (None, name) or kind not in (None, found):
                n_left_out += 1
                others.add(f"{name} {found or ''}".strip())
                continue
            if source is None:
                _check_same_place(name, target, where)
            feature = _feature(row, target.descriptions.height, where)
            explanation = _Explanation(
                _created(row, where),
                _text(row, "description", where),
                f"neuronpedia {name}{_by(row)}, {file.parent.name}/{file.name}",
            )
            if feature not in chosen or explanation.created >= chosen[feature].created:
                chosen[feature] = explanation
    if not chosen:
        wanted = " ".join(part for part in (source, kind) if part)
        there = f"; it has {', '.join(sorted(others)[:5])}" if others else ""
        raise ModelError(f"{files[0].parent} has no explanation {wanted}{there}")
    rows = {feature: (found.label, found.source) for feature, found in chosen.items()}
    return Labels(label_table(rows), n_left_out)


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where a row stands, and the row."""
    reader = gzip.open if file.suffix == ".gz" else open
    try:
        with reader(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{file}, line {number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ModelError(f"{where}: not JSON: {error}") from error
                if not isinstance(row, dict):
                    raise ModelError(f"{where}: a row must be an object, one a line (JSONL)")
                yield where, row
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ModelError(
            f"{where}: {key!r} must be text, not {value!r:.60}; rows of a Neuronpedia export of"
            " explanations have modelId, layer, index and description"
        )
    return value


def _by(row: dict[str, Any]) -> str:
    """Type and explainer, as far as the row says."""
    explainer = row.get("explanationModelName")
    kind = f", {row['typeName']}" if row.get("typeName") else ""
    return f"{kind} by {explainer}" if explainer else kind


def _feature(row: dict[str, Any], n_features: int, where: str) -> int:
    index = str(row.get("index"))
    if not (index.isascii() and index.isdigit()):
        raise ModelError(f"{where}: 'index' must be a feature's number, not {index!r:.60}")
    if int(index) >= n_features:
        raise ModelError(f"{where}: there is no feature {index}; the SAE has {n_features} features")
    return int(index)


def _created(row: dict[str, Any], where: str) -> datetime:
    """When it was written; a row that does not say so is older than all that do."""
    value = row.get("createdAt")
    if value is None:
        return datetime.min.replace(tzinfo=UTC)
    try:
        created = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ModelError(f"{where}: 'createdAt' is not a time: {value!r:.60}") from None
    return created if created.tzinfo else created.replace(tzinfo=UTC)


def _check_same_place(name: str, target: Described, where: str) -> None:
    """Neuronpedia has names of its own, so only the model's own name and the layer can be told."""
    model, _, source = name.partition("/")
    own = Path(target.model).name.casefold()
    layer = target.hook_point.split(".")[1:2]
    if model.casefold() != own or [source.partition("-")[0]] != layer:
        place = f"{target.hook_point} of {target.model}" if target.model else "an unnamed model"
        raise ModelError(
            f"{where}: this is for {name}, but {target.path} for {place};"
            f" if they are the same SAE's features, say so with --source {name}"
        )
