"""What every study of behaviours is given: model, SAE, and the behaviours' stores."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.behaviors import questions_of, read_samples
from experiments.config import Config
from experiments.record import Row, say, write_results
from experiments.subject import Subject, subject_of
from trimtab.errors import SelectionError, TrimtabError
from trimtab.model.hook_points import HookPoint, parse_hook_point
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.selector.exported.folder import sha256
from trimtab.selector.journal import Journal
from trimtab.selector.material import draw
from trimtab.selector.scales import DAMAGE_TEXTS
from trimtab.steering.damage import Damage
from trimtab.steering.judges.classifier import BehaviorClassifier
from trimtab.store import Store, build, build_many
from trimtab.store.files import building

PATIENCE = 3600.0  # seconds: what studies share in their small form is built in minutes


@dataclass(frozen=True, eq=False)
class Laboratory:
    """Where one study runs.

    Attributes:
        config: what it runs on.
        data: folder of the data sets; None where all behaviours are packaged.
        model: the language model.
        sae: the SAE.
        shelf: folder of what studies share: the stores.
        out: the study's own folder.
        sizes: of the study; with the config they are what a journal is for.
        journals: those in use, one a hook point: what is measured twice has one key there.
        meters: of damage, one a hook point.
        classifiers: of replies, one a behaviour.
        failed: what could not be measured, and why.
        read: SHA-256 of the files of data that were read.
    """

    config: Config
    data: Path | None
    model: LanguageModel
    sae: SAE
    shelf: Path
    out: Path
    sizes: Any
    journals: dict[str, Journal] = field(default_factory=dict, init=False)
    meters: dict[str, Damage] = field(default_factory=dict, init=False)
    classifiers: dict[str, BehaviorClassifier] = field(default_factory=dict, init=False)
    failed: dict[str, str] = field(default_factory=dict, init=False)
    read: dict[str, str] = field(default_factory=dict, init=False)

    @cached_property
    def samples(self) -> list[Sample]:
        """The samples of all behaviours, at most as many of each as the config says.

        Raises:
            SelectionError: there are none.
        """
        found: list[Sample] = []
        for name, source in self.config.behaviors.items():
            try:
                every = read_samples(name, source, self.data, self.shelf / "copies")
            except (TrimtabError, OSError) as error:
                self.fail(name, error)
            else:
                found += draw(every, self.config.samples, self.config.seed)
        if not found:
            why = "; ".join(self.failed.values()) or "it lists none"
            raise SelectionError(f"{self.config.file}: no behaviour can be read: {why}")
        return found

    @cached_property
    def _digest(self) -> str:
        """A hash of all samples."""
        hashes = "".join(sample.content_hash() for sample in self.samples)
        return hashlib.sha256(hashes.encode()).hexdigest()[:16]

    @cached_property
    def store(self) -> Store:
        """The store of all behaviours at the SAE's hook point; built where it is not there yet."""
        with self._alone():
            return build(self.shelf / "store", self.samples, self.model, self.sae)

    def stores_at(self, places: Iterable[HookPoint | SAE]) -> dict[HookPoint, Store]:
        """Return stores at other hook points: of an SAE's features, or of the residuals alone."""
        points = {place.hook_point if isinstance(place, SAE) else place: place for place in places}
        folders = {
            self.shelf / f"{'store' if isinstance(place, SAE) else 'residuals'}-{point}": place
            for point, place in points.items()
        }
        with self._alone():
            built = build_many(folders, self.samples, self.model)
        return dict(zip(points, (built[folder] for folder in folders), strict=True))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Build what studies share while the others of the folder wait for it.

        Raises:
            StoreError: another study has been building for too long.
        """
        self.shelf.mkdir(parents=True, exist_ok=True)
        with building(self.shelf, patience=PATIENCE):
            yield

    @cached_property
    def journal(self) -> Journal:
        """Of measurements whose keys say what they are of; samples are not in its settings."""
        return Journal(self.out / "journal.jsonl", self.settings)

    def file(self, name: str) -> Path:
        """Return a file in the folder of data sets.

        Raises:
            SelectionError: no folder was named, or it lacks the file.
        """
        found = file_of_data(self.data, name)
        self.read[name] = sha256(found)
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """What the study's figures follow from, beside what it measures and asks."""
        config = self.config
        return {
            "asked": config.questions,
            "seed": config.seed,
            "budget": config.budget,
            "model": self.model.fingerprint(),
            "sae": self.sae.fingerprint(),
            "sizes": asdict(self.sizes),
        }

    def subjects(self) -> Iterator[Subject]:
        """Yield every behaviour of the config, ready to be measured, and say which it is.

        One that cannot be read or split is passed over, and noted in `failed`.

        Raises:
            SelectionError: none can be read, or `out` holds measurements of other settings.
        """
        held = {sample.behavior for sample in self.samples}
        self._journal_at(self.store.fingerprint["hook_point"])
        for name in filter(held.__contains__, self.config.behaviors):
            say(name)
            try:
                subject = self.subject(name)
            except (TrimtabError, OSError) as error:
                self.fail(name, error)
            else:
                yield subject

    def subject(self, name: str, store: Store | None = None, sae: SAE | None = None) -> Subject:
        """Return one behaviour at the SAE's hook point, or where another store was read.

        Raises:
            SelectionError, PairsError: it has too few samples, or `out` holds measurements of
                other settings.
        """
        if store is None:
            store, sae = self.store, self.sae
        source = self.config.behaviors[name]
        point = store.fingerprint["hook_point"]
        if point not in self.meters:
            hook_point = parse_hook_point(point)
            self.meters[point] = Damage(self.model, hook_point, max_texts=DAMAGE_TEXTS)
        subject = subject_of(
            store,
            name,
            self.model,
            sae,
            self._journal_at(point),
            self.meters[point],
            questions=questions_of(name, source, self.data),
            most=self.config.questions,
            budget=self.config.budget,
            seed=self.config.seed,
            classifier=self.classifiers.get(name),
        )
        self.classifiers[name] = subject.bench.classifier
        return subject

    def _journal_at(self, point: str) -> Journal:
        if point not in self.journals:
            settings = self.settings | {"samples": self._digest}
            self.journals[point] = Journal(self.out / f"journal-{point}.jsonl", settings)
        return self.journals[point]

    def rows(self, what: str, found: Iterable[Row]) -> list[Row]:
        """Return rows as far as they can be measured; why they end early is noted in `failed`."""
        rows: list[Row] = []
        try:
            for row in found:
                rows.append(row)
        except TrimtabError as error:
            self.fail(what, error)
        return rows

    def write(self, tables: Mapping[str, list[Row]], **facts: Any) -> None:
        """Write the study's tables, with what they rest on.

        Raises:
            SelectionError: none has a row; those that are there already stay.
        """
        if not any(tables.values()):
            raise SelectionError(f"nothing could be measured: {'; '.join(self.failed.values())}")
        config = {
            **self.settings,
            "config": self.config.file.name,
            "saes": self.config.saes,
            "data": self.read,
            "failed": self.failed,
            **facts,
        }
        if "samples" in vars(self):  # else the study is of no behaviours, and read none
            judges = {
                name: {"kind": one.kind, "accuracy": one.accuracy, "reliable": one.reliable}
                for name, one in self.classifiers.items()
            }
            config |= {
                "behaviors": Counter(sample.behavior for sample in self.samples),
                "samples": self._digest,
                "judges": judges,
            }
        write_results(self.out, tables, config)

    def fail(self, what: str, error: Exception) -> None:
        """Say and note why something could not be measured."""
        say(f"{what}: {error}")
        self.failed[what] = str(error)


def file_of_data(data: Path | None, name: str) -> Path:
    """Return a file or folder in the folder of data sets.

    Raises:
        SelectionError: no folder was named, or it lacks the file.
    """
    if data is None:
        raise SelectionError(f"this study reads {name}; name the folder that has it: --data")
    if not data.is_dir():
        raise SelectionError(f"--data {data} is no folder")
    if not (data / name).exists():
        raise SelectionError(f"{data} has no {name}, which this study reads")
    return data / name
