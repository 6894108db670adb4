"""Making a store."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.group import example
from trimtab.cli.options import DeviceOption, DtypeOption, JsonOption, ModelOption
from trimtab.cli.printing import print_json
from trimtab.pairs import FORMATS

app = typer.Typer()


@app.command(
    epilog=example(
        "trimtab build runs/store pairs.jsonl --behavior politeness",
        "trimtab build runs/store refusal/generate_dataset.json --format caa-spelled",
        "trimtab build runs/gemma pairs.jsonl --model google/gemma-2-2b-it "
        "--sae gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical",
        "trimtab build runs/layers pairs.jsonl --sae none --hook-point blocks.9.hook_resid_post "
        "--hook-point blocks.12.hook_resid_post",
        "srun --ntasks=8 trimtab build runs/store pairs.jsonl --engine rank",
    )
)
def build(
    store: Annotated[Path, typer.Argument(help="The store's folder; made if it is missing.")],
    pairs: Annotated[list[Path], typer.Argument(help="Files of contrast pairs.")],
    format_: Annotated[
        str, typer.Option("--format", help="auto, " + ", ".join(FORMATS) + ".")
    ] = "auto",
    behavior: Annotated[
        str | None, typer.Option(help="Name of the behaviour, where the files give none.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=COLUMN for tables, e.g. positive=good; may be repeated."),
    ] = None,
    model: ModelOption = None,
    sae: Annotated[
        list[str] | None,
        typer.Option(
            help="release/id of sae_lens, a folder, or `none`; by default the packaged one. "
            "With several, each one's store is STORE/<hook point>."
        ),
    ] = None,
    hook_point: Annotated[
        list[str] | None,
        typer.Option(
            help="With --sae none: what to read, e.g. blocks.15.hook_resid_post; may be repeated."
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="No chat template.")] = False,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    values: Annotated[
        str, typer.Option(help="Store activations as float32, bfloat16 or auto: the model's dtype.")
    ] = "auto",
    engine: Annotated[
        str,
        typer.Option(
            help="local, processes, ray, or rank: run the share that SLURM or torchrun gave this "
            "process."
        ),
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes or Ray actors; by default one per GPU.")
    ] = None,
    rank: Annotated[
        str | None, typer.Option(help="i/n: run every n-th task, as process i of n, from 0.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Run pairs through a model and its SAE and store what they activate.

    To continue an interrupted build, run the same command again; stored pairs are not run again.
    """
    from trimtab.pairs import read_pairs

    saes: list[str | None] = list(sae) if sae else [None]
    points: list[str | None] = list(hook_point) if hook_point else []
    if len(points) > 1 and saes != ["none"]:
        raise typer.BadParameter("more than one needs --sae none", param_hint="--hook-point")
    if points and len(saes) > 1:
        raise typer.BadParameter("comes from each SAE; leave it out", param_hint="--hook-point")
    if device == "balanced" and engine in ("processes", "ray"):
        raise typer.BadParameter(
            f"balanced does not work with --engine {engine}", param_hint="--device"
        )
    samples = read_pairs(pairs, format=format_, behavior=behavior, columns=_columns(column or []))
    from trimtab.model.language_model import load_model
    from trimtab.model.sae import load_sae
    from trimtab.store import build_many
    from trimtab.store.building.engines.rank import launched_rank, own_device, parse_rank
    from trimtab.store.building.targets import read_by, store_names

    share = parse_rank(rank) if rank else launched_rank() if engine == "rank" else None
    if share is not None and device == "auto":
        device = own_device()
    loaded = load_model(model, dtype=dtype, device=device)
    reads = [
        read_by(loaded, load_sae(spec, loaded), point)
        for spec in saes
        for point in points or [None]
    ]
    names = [Path(name) for name in store_names(reads)] if len(reads) > 1 else [Path()]
    built = build_many(
        {store / name: read for name, read in zip(names, reads, strict=True)},
        samples,
        loaded,
        chat=not raw,
        system=system,
        values=values,  # type: ignore[arg-type]
        engine="local" if engine == "rank" else engine,  # type: ignore[arg-type]
        workers=workers,
        rank=share,
    )
    if json_:
        found = [{"path": str(path), "samples": one.status_counts()} for path, one in built.items()]
        print_json(found[0] if len(found) == len(reads) == 1 else {"stores": found})
        return
    for path, one in built.items():
        counts = ", ".join(f"{n} {status}" for status, n in one.status_counts().items())
        typer.echo(f"{path}: {counts}; behaviours: {', '.join(one.behaviors())}")
    if share is not None and not built:
        typer.echo(f"rank {share[0]} of {share[1]} has finished; other ranks have not")


def _columns(mappings: list[str]) -> dict[str, str] | None:
    pairs = [mapping.partition("=") for mapping in mappings]
    wrong = [mapping for mapping, (_, equals, _) in zip(mappings, pairs, strict=True) if not equals]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not FIELD=COLUMN", param_hint="--column")
    return {field: column for field, _, column in pairs} or None
