"""What a study runs on: model, SAE, behaviours and sizes, from a TOML file.

model = "default"
sae = "default"
samples = 80

lists = ["minimal/behaviors.toml"]  # other files' behaviours, by paths beside this one

[behaviors.formality]               # a packaged set

[behaviors.caa-refusal]             # files in the folder of --data
files = ["caa/generate/refusal/generate_dataset.json"]
format = "caa-spelled"
questions = "caa/test/refusal/test_dataset_open_ended.json"

[sizes.feature_vectors]             # what a study measures, where it is not its default
atoms = [4, 16, 64]
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from experiments.behaviors import Source, read_sources, read_toml, sources
from experiments.checked import Count, Positive, Whole, checked
from trimtab.errors import SelectionError

S = TypeVar("S")

HERE = Path(__file__).parent
SMALL = HERE / "small.toml"


@dataclass(frozen=True)
class Config:
    """Attributes that a file leaves out keep these values.

    Attributes:
        file: that it was read from.
        behaviors: by name; those of `lists` first.
        model: a name or folder that `load_model` takes.
        sae: a name, release and id, or folder that `load_sae` takes.
        saes: of other layers.
        dtype: of the model.
        device: of both.
        seed: of splits, draws and controls.
        samples: at most so many of a behaviour.
        questions: at most so many of a behaviour; with none there are no behaviour rates.
        budget: damage that vectors are compared at, nats per token.
        sizes: by study, in place of its own.
    """

    file: Path
    behaviors: dict[str, Source]
    model: str = "default"
    sae: str = "default"
    saes: tuple[str, ...] = ()
    dtype: str = "float32"
    device: str = "auto"
    seed: Whole = 0
    samples: Count = 160
    questions: Whole = 40
    budget: Positive = 0.1
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_config(file: Path) -> Config:
    """Read a TOML file.

    Raises:
        SelectionError: it cannot be read, or has a key that no study knows or a value of another
            type.
        PairsError: as `sources` does.
    """
    found = read_toml(file)
    listed: dict[str, Source] = {}
    for other in checked(list[str], found.pop("lists", []), f"{file}, lists"):
        listed |= read_sources(file.parent / other)
    _known(found, Config, {"file"}, str(file))
    listed |= sources(found.pop("behaviors", {}), file)
    config = checked(Config, {**found, "file": file, "behaviors": listed}, str(file))
    for study in config.sizes:
        if not (HERE / study / "study.py").exists():
            raise SelectionError(f"{file}, sizes: there is no study {study!r}")
    return config


def sizes_of(config: Config, study: str, sizes: S) -> S:
    """Return a study's sizes as the config has them, `sizes` where it has none.

    Raises:
        SelectionError: the config has one that the study has not, or of another type.
    """
    given, where = config.sizes.get(study, {}), f"{config.file}, sizes.{study}"
    _known(given, type(sizes), set(), where)
    return checked(type(sizes), {**vars(sizes), **given}, where)


def _known(found: dict[str, Any], kind: type, hidden: set[str], where: str) -> None:
    names = {one.name for one in fields(kind)} - hidden
    unknown = sorted(set(found) - names)
    if unknown:
        raise SelectionError(
            f"{where}: unknown {', '.join(unknown)}; there are {', '.join(sorted(names))}"
        )
