"""What travels to a worker elsewhere, and how it becomes a worker there."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab.errors import StoreError
from trimtab.store.building.batches import Settings
from trimtab.store.building.targets import Target
from trimtab.store.building.worker import Worker
from trimtab.store.fingerprint import check_same, fingerprint
from trimtab.store.plan import Planned, by_task, read_plan

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel


@dataclass(frozen=True)
class JobStore:
    """A store, by names: its folder, hook point, SAE ("none" for none) and fingerprint."""

    path: str
    hook_point: str
    sae: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Job:
    """A pass over some stores. Relative names, of a model's folder say, count from `folder`."""

    folder: str
    model: str
    revision: str
    dtype: str
    stores: tuple[JobStore, ...]
    settings: Settings


def job_of(model: "LanguageModel", targets: Sequence[Target], settings: Settings) -> Job:
    """Name the model and the SAEs of a pass."""
    return Job(
        folder=str(Path.cwd()),
        model=model.name,
        revision=model.revision,
        dtype=str(model.dtype).removeprefix("torch."),
        stores=tuple(
            JobStore(
                path=str(target.path.absolute()),
                hook_point=str(target.hook_point),
                sae="none" if target.sae is None else target.sae.spec,
                fields=dict(target.fields),
            )
            for target in targets
        ),
        settings=settings,
    )


def start_worker(job: Job, *, device: str = "auto", threads: int | None = None) -> Worker:
    """Load what the job names, and make sure that it is what the coordinator has.

    Raises:
        StoreError: a fingerprint differs, or a folder is out of reach from here.
        ModelError: the model or an SAE cannot be loaded here.
    """
    import torch

    from trimtab.model.hook_points import parse_hook_point
    from trimtab.model.language_model import load_model
    from trimtab.model.sae import load_sae

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        os.chdir(job.folder)
    except OSError as error:
        raise StoreError(
            f"{job.folder} cannot be opened on {socket.gethostname()} ({error.strerror});"
            " every worker needs the same folders"
        ) from None
    model = load_model(job.model, dtype=job.dtype, device=device, revision=job.revision or None)
    saes = {spec: load_sae(spec, model) for spec in {store.sae for store in job.stores}}
    targets = []
    planned: dict[str, list[Planned]] = {}
    for store in job.stores:
        path, hook_point = Path(store.path), parse_hook_point(store.hook_point)
        sae = saes[store.sae]
        fields = fingerprint(
            model,
            sae,
            hook_point=hook_point,
            chat=job.settings.chat,
            system=job.settings.system,
            max_tokens=job.settings.max_tokens,
            values=store.fields["value_dtype"],  # type: ignore[arg-type]
        )
        try:
            check_same(path, store.fields, fields)
        except StoreError as error:
            raise StoreError(f"a worker on {socket.gethostname()} differs: {error}") from None
        targets.append(Target(path, hook_point, sae, fields))
        planned |= by_task(read_plan(path / "plan"))
    return Worker(model, targets, job.settings, planned)
