"""Which pairs, features or cells carry a behaviour's vector."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trimtab.cli.group import example
from trimtab.cli.options import BudgetOption, DeviceOption, JsonOption, SeedOption
from trimtab.cli.printing import check_writable, print_json, write_rows

if TYPE_CHECKING:
    from trimtab.selector.verdicts.attributed import Attributed

SHOWN = 6  # rows of each verdict
LONGEST = 100  # letters of a text
UNITS = ("samples", "features", "cells")

app = typer.Typer()


@app.command(
    epilog=example(
        "trimtab attribute runs/demo/store formality --audit --out pairs.parquet",
        "trimtab attribute runs/demo/store formality --unit features",
        "trimtab attribute runs/demo/store formality --estimator shapley --evaluations 2000",
    )
)
def attribute(
    store: Annotated[Path, typer.Argument(help="A store that `trimtab build` made.")],
    behavior: Annotated[str, typer.Argument(help="Which of the store's behaviours.")],
    unit: Annotated[
        str, typer.Option(help="What is scored: samples, features or (sample, feature) cells.")
    ] = "samples",
    estimator: Annotated[
        str | None,
        typer.Option(
            help="jackknife (default for samples), integrated (default for features and cells), "
            "first_order, leave_one_out, shapley, ridge or lasso; or cosine, norm or random, which "
            "measure nothing."
        ),
    ] = None,
    evaluations: Annotated[
        int,
        typer.Option(
            min=1, help="Measurements for shapley, ridge and lasso, on each half of the pairs."
        ),
    ] = 256,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Also measure the effect without the pairs that hurt, and look for pairs that the "
            "vector moves the wrong way.",
        ),
    ] = False,
    budget: BudgetOption = 0.1,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None, typer.Option(help="File to write: .parquet, .csv, .json or .jsonl.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Say which pairs help, which do nothing, and which pull the wrong way.

    Each half of the pairs makes a vector, whose effect on pairs of the other half is attributed to
    its parts. To resume an interrupted run that has --out, run the same command again.
    """
    if unit not in UNITS:
        raise typer.BadParameter(f"must be one of {', '.join(UNITS)}", param_hint="--unit")
    if out is not None:
        check_writable(out)
    from trimtab.store import open_store

    opened = open_store(store)
    from trimtab.selector.attribution import DEFAULTS
    from trimtab.selector.verdicts.attributed import Asked, run

    estimator = estimator or DEFAULTS[unit]  # type: ignore[index]
    asked = Asked(unit, estimator, evaluations, budget, seed, audit)  # type: ignore[arg-type]

    def write(found: "Attributed") -> None:
        if out is not None:
            write_rows({out: found.table})

    found = run(opened, behavior, asked, out=out, write=write, device=device)
    if json_:
        print_json({**found.to_json(), "table": found.table.to_dicts()})
        return
    _print(found, unit)
    if out is not None:
        typer.echo(f"\n{out}: {found.table.height} rows")


def _print(found: "Attributed", unit: str) -> None:
    from trimtab.model.features.descriptions import visible
    from trimtab.selector.report.numbers import estimate

    for scores in found.halves:
        half = scores.half
        typer.echo(
            f"The vector of the {half.name} {half.parts.n_samples} samples has an effect of "
            f"{estimate(scores.effect)} nats per token on {len(half.scored)} samples of the other "
            "half."
        )
    counts = dict(found.table.group_by("verdict").len().iter_rows())
    by_chance = found.table.height / 40
    typer.echo(
        f"Of {found.table.height} {unit}, {counts.get('helps', 0)} help, {counts.get('hurts', 0)} "
        f"hurt and {counts.get('unclear', 0)} have no clear effect; by chance about "
        f"{by_chance:.0f} would seem to help, and as many to hurt."
    )
    shown = {
        "help most": ("helps", False),
        "no clear effect": ("unclear", None),
        "hurt": ("hurts", True),
    }
    for title, (verdict, ascending) in shown.items():
        rows = found.table.filter(pl.col("verdict") == verdict)
        by = pl.col("score").abs() if ascending is None else pl.col("score")
        rows = rows.sort(by, descending=ascending is False).head(SHOWN)
        if rows.height:
            Console().print(_table(rows, title))
    if found.suspects is not None:
        one = found.suspects
        typer.echo(
            f"Without the {len(one.dropped)} pairs that hurt, the effect on pairs not used to find "
            f"them is {estimate(one.without)}; with them it is {estimate(one.full)}. The gain over "
            f"dropping as many random pairs is {estimate(one.beyond_random)}."
        )
    if found.wrong_way is not None:
        way = found.wrong_way
        typer.echo(
            f"The vectors move a share of {estimate(way.judged)} of such pairs the wrong way, and "
            f"after the remedies ({', '.join(way.remedies)}) {estimate(way.mended)}, "
            f"a change of {estimate(way.change)}."
        )
        if way.culprits:
            typer.echo(visible(f"Pairs most to blame: {', '.join(way.culprits)}."))


def _table(rows: pl.DataFrame, title: str) -> Table:
    from trimtab.model.features.descriptions import visible
    from trimtab.selector.report.numbers import number, places

    texts = [c for c in ("label", "prompt", "positive", "negative") if c in rows.columns]
    names = [c for c in ("sample_id", "feature") if c in rows.columns]
    table = Table(*names, "score", "95 % interval", *texts, title=title)
    decimals = places(rows["score"].to_list())
    for row in rows.iter_rows(named=True):
        bounds = [row["low"], row["high"]]
        interval = "" if None in bounds else ", ".join(number(x, decimals) for x in bounds)
        shown = [Text(visible(_shortened(row[name]))) for name in texts]
        keys = [Text(visible(str(row[name]))) for name in names]
        table.add_row(*keys, number(row["score"], decimals), interval, *shown)
    return table


def _shortened(value: Any) -> str:
    text = str(value or "")
    return text if len(text) <= LONGEST else text[:LONGEST].rstrip() + " …"
