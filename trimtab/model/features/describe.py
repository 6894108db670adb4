"""Describe every feature of an SAE by the text it fires on and the tokens it promotes.

The text streams through once, up to the SAE's layer. Memory does not grow with it.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import polars as pl
import torch
from torch import Tensor

from trimtab.errors import ModelError
from trimtab.model.features.descriptions import AUTOMATIC, SCHEMA
from trimtab.model.features.firing import BEFORE, Firing, Window
from trimtab.model.features.labels import automatic_label
from trimtab.model.features.parts import PARTS
from trimtab.model.features.promoted import promoted
from trimtab.model.features.running import Sums
from trimtab.model.token_text import token_text, vocabulary

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

TOKENS, NEIGHBOURS, PROMOTED, CONTEXTS = 10, 5, 8, 5  # how many of each are kept
CLEAR_SHARE = 0.1  # of a neighbour or a part that is worth a row
TELLING = 2  # tokens of text for each of the vocabulary, that tell which ones are in use
WINDOWS_SORTED = 256  # taken from the stream at once, so that windows of like length run together


@torch.inference_mode()
def describe(
    model: "LanguageModel",
    sae: "SAE",
    windows: Iterable[Window],
    *,
    tokens: int | None = None,
    quote: Collection[str] | None = None,
    batch_tokens: int = 4096,
    progress: bool = True,
) -> pl.DataFrame:
    """Return descriptions of all features, with automatic labels; see `descriptions.SCHEMA`.

    Args:
        model: reads the text.
        sae: encodes its activations; which tokens count is in `Firing`.
        windows: `(source, token ids)`, as `documents.windows` yields them.
        tokens: stop after so many.
        quote: sources whose text may be quoted as contexts; None for all.
        batch_tokens: padded tokens that run at once.
        progress: show a bar on stderr.

    Raises:
        ModelError: there is no text.
        KeyboardInterrupt: Ctrl-C; nothing is kept.
    """
    texts = vocabulary(model.tokenizer)
    facts = Firing(texts, sae.d_sae)
    try:
        with _bar(tokens, shown=progress) as advance:
            for group in _batches(_limited(windows, tokens), batch_tokens):
                facts.read(model, sae, group, quote)
                advance(sum(len(ids) for _, ids in group))
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; nothing is kept of the unfinished description") from None
    if not facts.n_tokens:
        raise ModelError(
            "there is no text to describe features from; documents of a few tokens are skipped"
        )
    return _table(model, sae, texts, facts)


def _table(model: "LanguageModel", sae: "SAE", texts: Sequence[str], facts: Firing) -> pl.DataFrame:
    allowed = _namable(model, texts, facts)
    up, down = promoted(model, sae, allowed, PROMOTED)
    n_active, mass = facts.n_active.double(), facts.mass
    shares = (facts.parts / mass.clamp_min(1e-30)).T.tolist()
    table = pl.DataFrame(
        {
            "feature": range(sae.d_sae),
            "label_source": [AUTOMATIC] * sae.d_sae,
            "firing_rate": (n_active / facts.n_tokens).numpy(),
            "max": facts.max.numpy(),
            "mean_active": (mass / n_active.clamp_min(1)).numpy(),
            "parts": [_parts(row) for row in shares],
            "promotes": [[texts[token] for token in ids] for ids in up],
            "suppresses": [[texts[token] for token in ids] for ids in down],
        },
        schema_overrides={name: SCHEMA[name] for name in ("parts", "promotes", "suppresses")},
    )
    totals = pl.DataFrame({"feature": range(sae.d_sae), "mass": mass.numpy()})
    for name, sums, most, least in (
        ("tokens", facts.tokens, TOKENS, 0.0),
        ("preceded_by", facts.previous, NEIGHBOURS, CLEAR_SHARE),
        ("followed_by", facts.following, NEIGHBOURS, CLEAR_SHARE),
    ):
        heaviest = _heaviest(sums, texts, totals, most, least).rename({"heaviest": name})
        table = table.join(heaviest, on="feature", how="left", maintain_order="left")
    table = table.join(_contexts(model, facts), on="feature", how="left", maintain_order="left")
    lists = ("tokens", "preceded_by", "followed_by", "contexts")
    filled = [pl.col(name).fill_null(pl.lit([], dtype=SCHEMA[name])) for name in lists]
    table = table.with_columns(*filled, label=pl.lit("")).select(SCHEMA.names()).cast(SCHEMA)
    labels = [automatic_label(row) for row in table.iter_rows(named=True)]
    return table.with_columns(label=pl.Series(labels, dtype=pl.String))


def _namable(model: "LanguageModel", texts: Sequence[str], facts: Firing) -> Tensor:
    """Tokens that a reader can make something of: readable, not special, in use as far as known."""
    added = model.tokenizer.added_tokens_decoder.items()
    special = {*model.tokenizer.all_special_ids, *(i for i, token in added if token.special)}
    readable = [
        bool(text) and "\N{REPLACEMENT CHARACTER}" not in text and token not in special
        for token, text in enumerate(texts)
    ]
    told = facts.n_tokens >= TELLING * len(texts)
    return torch.tensor(readable) & (facts.seen if told else torch.tensor(True))


def _parts(shares: Sequence[float]) -> list[dict[str, object]]:
    ranked = sorted(zip(PARTS, shares, strict=True), key=lambda part: -part[1])
    return [{"part": name, "share": share} for name, share in ranked if share >= CLEAR_SHARE]


def _heaviest(
    sums: Sums, texts: Sequence[str], totals: pl.DataFrame, most: int, least: float
) -> pl.DataFrame:
    """Columns feature and `heaviest`, a list of token and share; tokens that read alike are one."""
    sums.merge()
    return (
        sums.table.with_columns(pl.col("feature").cast(pl.Int64))
        .with_columns(token=pl.Series([texts[i] for i in sums.table["token"]], dtype=pl.String))
        .group_by("feature", "token")
        .agg(pl.col("value").sum())
        .join(totals, on="feature")
        .with_columns(share=pl.col("value") / pl.col("mass"))
        .filter(pl.col("share") >= least)
        .sort("feature", "share", "token", descending=[False, True, False])
        .group_by("feature", maintain_order=True)
        .agg(heaviest=pl.struct("token", "share").head(most))
    )


def _contexts(model: "LanguageModel", facts: Firing) -> pl.DataFrame:
    facts.contexts.merge()
    found: dict[int, list[dict[str, object]]] = {}
    for row in facts.contexts.table.iter_rows(named=True):
        before, token, after = (
            token_text(model.tokenizer, [i for i in ids if i >= 0])
            for ids in (
                row["around"][:BEFORE],
                row["around"][BEFORE : BEFORE + 1],
                row["around"][BEFORE + 1 :],
            )
        )
        kept = found.setdefault(row["feature"], [])
        # a letter that the cut went through is no text
        text = {
            "before": before.lstrip("\N{REPLACEMENT CHARACTER}"),
            "token": token,
            "after": after.rstrip("\N{REPLACEMENT CHARACTER}"),
        }
        if len(kept) < CONTEXTS and not any(text.items() <= other.items() for other in kept):
            kept.append({**text, "value": row["value"], "source": row["source"]})
    return pl.DataFrame(
        {"feature": list(found), "contexts": list(found.values())},
        schema={"feature": pl.Int64, "contexts": SCHEMA["contexts"]},
    )


def _limited(windows: Iterable[Window], tokens: int | None) -> Iterator[Window]:
    left = sys.maxsize if tokens is None else tokens
    for source, ids in windows:
        if ids:
            yield source, ids[:left]
        left -= len(ids)
        if left <= 0:
            return


def _batches(windows: Iterator[Window], batch_tokens: int) -> Iterator[list[Window]]:
    while some := list(islice(windows, WINDOWS_SORTED)):
        some.sort(key=lambda window: len(window[1]))
        batch: list[Window] = []
        for window in some:
            if batch and (len(batch) + 1) * len(window[1]) > batch_tokens:
                yield batch
                batch = []
            batch.append(window)
        yield batch


@contextmanager
def _bar(total: int | None, *, shown: bool) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("tokens"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("", total=total)
        yield lambda tokens: bar.advance(task, tokens)
