"""Sums and strongest places over a stream of activations, in memory that does not grow with it."""

from dataclasses import dataclass, field

import polars as pl
import torch
from torch import Tensor

_SUMS = pl.Schema({"feature": pl.Int32, "token": pl.Int32, "value": pl.Float64})


@dataclass
class Sums:
    """Summed activation by feature and token.

    Where there are more than `entries` a feature, all but its heaviest `entries / 4` are forgotten:
    a token that comes back counts from then on, so a light token's sum may be too small, and a
    heavy one's is exact.
    """

    n_features: int
    entries: int = 128
    table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_SUMS))
    _fresh: list[pl.DataFrame] = field(default_factory=list)
    _n_fresh: int = 0

    def add(self, features: Tensor, tokens: Tensor, values: Tensor) -> None:
        """Add activations: three tensors `(n,)` on the CPU; tokens below 0 are left out."""
        rows = pl.DataFrame(
            {"feature": features.numpy(), "token": tokens.numpy(), "value": values.numpy()},
            schema_overrides=_SUMS,
        )
        self._fresh.append(_summed(rows.filter(pl.col("token") >= 0)))
        self._n_fresh += self._fresh[-1].height
        if self._n_fresh > self.entries * self.n_features:
            self.merge()

    def merge(self) -> None:
        """Bring `table` (feature, token, value) up to date; it is sorted, the heaviest first."""
        self.table = _summed(pl.concat([self.table, *self._fresh])).sort(
            "value", "token", descending=[True, False]
        )
        if self.table.height > self.entries * self.n_features:
            heaviest = self.table.group_by("feature", maintain_order=True)
            self.table = heaviest.head(self.entries // 4).sort(
                "value", "token", descending=[True, False]
            )
        self._fresh, self._n_fresh = [], 0


def _summed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("feature", "token").agg(pl.col("value").sum())


@dataclass
class Strongest:
    """The places at which each feature gets strongest, no two of them after the same few tokens.

    `width` ids around a place are kept; `same` is the slice of them in which two places must not
    agree.
    """

    n_features: int
    width: int
    same: slice
    kept: int
    table: pl.DataFrame = field(init=False)
    _fresh: list[pl.DataFrame] = field(default_factory=list)
    _n_fresh: int = 0

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        length = len(range(*self.same.indices(self.width)))
        self._factors = torch.randint(-(2**63), 2**63 - 1, (length,), generator=generator) | 1
        self._floor = torch.zeros(self.n_features)
        self._schema = {
            "feature": pl.Int32(),
            "key": pl.Int64(),
            "value": pl.Float32(),
            "around": pl.Array(pl.Int32, self.width),
            "source": pl.String(),
        }
        self.table = pl.DataFrame(schema=self._schema)

    def add(self, features: Tensor, values: Tensor, around: Tensor, sources: list[str]) -> None:
        """Add activations on the CPU: features and values `(n,)`, ids `(n, width)`, sources n."""
        stronger = values > self._floor[features]
        around = around[stronger]
        chosen = stronger.nonzero()[:, 0].tolist()
        self._fresh.append(
            pl.DataFrame(
                {
                    "feature": features[stronger].numpy(),
                    # a sum that overflows on purpose: it is a hash of the few tokens
                    "key": ((around[:, self.same].long() + 2) * self._factors).sum(1).numpy(),
                    "value": values[stronger].numpy(),
                    "around": around.int().numpy(),
                    "source": [sources[row] for row in chosen],
                },
                schema_overrides=self._schema,
            )
        )
        self._n_fresh += len(chosen)
        if self._n_fresh > 2 * self.kept * self.n_features:
            self.merge()

    def merge(self) -> None:
        """Bring `table` (feature, value, around, source) up to date, the strongest first."""
        order = pl.concat([self.table, *self._fresh]).sort(
            "value", descending=True, maintain_order=True
        )
        distinct = order.unique(["feature", "key"], keep="first", maintain_order=True)
        self.table = distinct.group_by("feature", maintain_order=True).head(self.kept)
        full = self.table.group_by("feature").agg(pl.len(), pl.col("value").min())
        full = full.filter(pl.col("len") == self.kept)
        self._floor[full["feature"].to_torch().long()] = full["value"].to_torch()
        self._fresh, self._n_fresh = [], 0
