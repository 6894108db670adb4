"""What every study of behaviours is given: model, SAE, and the behaviours' stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from experiments.behaviors import questions_of, read_samples
from experiments.config import Config
from experiments.record import Row, say, write_results
from experiments.subject import Subject, subject_of
from trimtab.model.families import find_layers
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.selector.journal import Journal
from trimtab.selector.material import draw
from trimtab.store import Store, build, build_many


@dataclass(frozen=True, eq=False)
class Laboratory:
    """Where one study runs.

    Attributes:
        config: what it runs on.
        data: folder of the data sets; None where all behaviours are packaged.
        model: the language model, in float32.
        sae: the SAE.
        shelf: folder of what studies share: the stores.
        out: the study's own folder.
        sizes: of the study; with the config they are what a journal is for.
    """

    config: Config
    data: Path | None
    model: LanguageModel
    sae: SAE
    shelf: Path
    out: Path
    sizes: Any

    @cached_property
    def samples(self) -> list[Sample]:
        """The samples of all behaviours, at most as many of each as the config says."""
        found: list[Sample] = []
        for name, source in self.config.behaviors.items():
            every = read_samples(name, source, self.data, self.shelf / "copies")
            found += draw(every, self.config.samples, self.config.seed)
        return found

    @cached_property
    def store(self) -> Store:
        """The store of all behaviours at the SAE's hook point; built where it is not there yet."""
        return build(self.shelf / "store", self.samples, self.model, self.sae)

    def stores_at(self, points: list[HookPoint]) -> dict[HookPoint, Store]:
        """Return stores of the residuals at other hook points."""
        folders = {self.shelf / f"residuals-{point}": point for point in points}
        built = build_many(dict(folders), self.samples, self.model)
        return {point: built[folder] for folder, point in folders.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """What the study's figures follow from."""
        config = self.config
        return {
            "samples": [sample.content_hash() for sample in self.samples],
            "asked": config.questions,
            "seed": config.seed,
            "budget": config.budget,
            "model": self.model.fingerprint(),
            "sae": self.sae.fingerprint(),
            "sizes": asdict(self.sizes),
        }

    @cached_property
    def journals(self) -> dict[str, Journal]:
        """The journals in use, one a hook point: what is measured twice has one key there."""
        return {}

    def journal(self, store: Store) -> Journal:
        """Return the journal of what is measured at a store's hook point.

        Raises:
            SelectionError: the study's folder holds measurements of other settings.
        """
        point = store.fingerprint["hook_point"]
        if point not in self.journals:
            self.journals[point] = Journal(self.out / f"journal-{point}.jsonl", self.settings)
        return self.journals[point]

    def subjects(self) -> Iterator[Subject]:
        """Yield every behaviour of the config, ready to be measured, and say which it is."""
        for name in self.config.behaviors:
            say(name)
            yield self.subject(name)

    def subject(self, name: str, store: Store | None = None) -> Subject:
        """Return one behaviour at the SAE's hook point, or where another store was read.

        Raises:
            SelectionError, PairsError: it has too few samples.
        """
        source = self.config.behaviors[name]
        return subject_of(
            store or self.store,
            name,
            self.model,
            self.sae if store is None else None,
            self.journal(store or self.store),
            questions=questions_of(name, source, self.data),
            most=self.config.questions,
            budget=self.config.budget,
            seed=self.config.seed,
        )

    def write(self, tables: dict[str, list[Row]], **facts: Any) -> None:
        """Write the study's tables, with what they rest on."""
        write_results(
            self.out,
            tables,
            {
                **self.settings,
                "config": self.config.file.name,
                "behaviors": list(self.config.behaviors),
                "samples": len(self.samples),
                **facts,
            },
        )


@contextmanager
def counted(model: LanguageModel) -> Iterator[list[int]]:
    """Count the tokens that pass the model's last layer inside; the list's one number."""
    count = [0]

    def add(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        count[0] += x.shape[0] * x.shape[1]

    handle = find_layers(model.module)[-1].register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield count
    finally:
        handle.remove()
