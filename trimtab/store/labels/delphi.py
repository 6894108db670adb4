"""Labels out of delphi's folders, and delphi's names for places.

`explanations/<module>_latent<number>.txt` holds one JSON string. `scores/<scorer>/` may hold, under
the same name, a list of judgements, of which `correct` says whether the explanation told right.
"""

import json
import re
from pathlib import Path
from typing import Any

from trimtab.errors import ModelError
from trimtab.store.labels.described import Described
from trimtab.store.labels.labels import Labels, label_table

_NAME = re.compile(r"(?P<module>.+)_latent(?P<feature>[0-9]+)")
_RESIDUAL = re.compile(r"blocks\.([0-9]+)\.hook_resid_post")


def module_name(hook_point: str) -> str:
    """Name the module whose output is a hook point's activation, as far as it has a name there."""
    layer = _RESIDUAL.fullmatch(hook_point)
    return f"layers.{layer[1]}" if layer else hook_point


def explanations_folder(path: Path) -> Path | None:
    """Return the folder of explanations that is `path` or lies in it; None where there is none."""
    for folder in (path / "explanations", path):
        if next(folder.glob("*.txt"), None):
            return folder
    return None


def read_explanations(folder: Path, target: Described, *, source: str | None) -> Labels:
    """Read the explanations in `folder`, with their scores if these lie beside it.

    Args:
        folder: of `.txt` files.
        target: whose features are meant; files of another module are refused.
        source: take only files of this module, whatever the target calls it.

    Raises:
        ModelError: a file cannot be read, is of another module, or of a feature that does not
            exist.
    """
    rows, modules = {}, set()
    n_left_out = 0
    for file in sorted(folder.glob("*.txt")):
        name = _NAME.fullmatch(file.stem)
        if name is None:
            raise ModelError(f"{file} is not named as delphi names explanations: MODULE_latentN")
        module, feature = name["module"], int(name["feature"])
        modules.add(module)
        if source not in (None, module):
            n_left_out += 1
            continue
        if source is None and not _is_of(module, target.hook_point):
            own = target.hook_point or "an unknown hook point"
            raise ModelError(
                f"{file} is for {module}, but {target.path} for {own};"
                f" if they are the same SAE's features, say so with --source {module}"
            )
        if feature >= target.descriptions.height:
            raise ModelError(
                f"{file}: there is no feature {feature};"
                f" the SAE has {target.descriptions.height} features"
            )
        label = _json(file)
        if not isinstance(label, str):
            raise ModelError(f"{file}: an explanation is a JSON string, not {label!r:.60}")
        scores = "".join(f", {score}" for score in _scores(folder.parent / "scores", file.name))
        rows[feature] = (label, f"delphi {module}, {folder.name}/{file.name}{scores}")
    if not rows:
        raise ModelError(f"{folder} has no explanation of {source}; it has {', '.join(modules)}")
    return Labels(label_table(rows), n_left_out)


def _is_of(module: str, hook_point: str) -> bool:
    """Whether a module is the hook point's; the path to a model's layers has many names."""
    expected = module_name(hook_point)
    layers = re.escape(expected).replace("layers", "(layers|h|blocks)", 1)
    return module == hook_point or bool(re.fullmatch(rf"(.+\.)?{layers}", module))


def _scores(folder: Path, name: str) -> list[str]:
    """The share of each scorer's judgements that were correct, in words."""
    scores = []
    for scorer in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (scorer / name).is_file():
            continue
        judged = _json(scorer / name)
        try:
            correct = [row["correct"] for row in judged if row["correct"] is not None]
        except (TypeError, KeyError):
            raise ModelError(
                f"{scorer / name}: scores are a JSON list of objects with 'correct'"
            ) from None
        if correct:
            scores.append(f"{scorer.name} {sum(map(bool, correct)) / len(correct):.2f}")
    return scores


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from error
