"""What a number would be by chance: the same number where labels say nothing."""

from collections.abc import Sequence

import numpy as np

from experiments.record import Row
from trimtab.selector.intervals import Estimate

LEVEL = 0.05


def against_chance(value: float, dealt: Sequence[float]) -> Row:
    """Return columns that set a number beside those of labels that were dealt out anew.

    `p` is the share of numbers as large, this one among them (Phipson & Smyth 2010,
    https://doi.org/10.2202/1544-6115.1585); `chance` is their mean, with the quantiles between
    which 95 % of them lie.
    """
    null = np.asarray(dealt)
    low, high = np.quantile(null, [0.025, 0.975])
    p = (1 + int((null >= value - 1e-12).sum())) / (1 + len(null))
    return {
        "chance": Estimate(float(null.mean()), float(low), float(high)),
        "p": p,
        "beyond_chance": p <= LEVEL,
    }
