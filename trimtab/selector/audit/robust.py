"""Robust means: centres of the differences that a few wrong ones cannot drag away."""

from torch import Tensor

MAX_STEPS = 500
PRECISION = 1e-9  # of a step, in spreads of the rows
TRIM = 0.2  # trimmed from each end: as much as the audit poisons at most


def geometric_median(rows: Tensor) -> Tensor:
    """Return the point with the least sum of distances to rows `(n, d)`, `(d,)` float32.

    Weiszfeld's iteration (1937) from the mean, distances kept off zero.
    """
    points = rows.double()
    scale = (points - points.mean(0)).norm(dim=1).mean().clamp_min(1e-12)
    centre = points.mean(0)
    for _ in range(MAX_STEPS):
        weights = 1 / (points - centre).norm(dim=1).clamp_min(1e-9 * float(scale))
        moved = weights @ points / weights.sum()
        step, centre = (moved - centre).norm(), moved
        if step <= PRECISION * scale:
            break
    return centre.float()


def trimmed_mean(rows: Tensor) -> Tensor:
    """Return the mean of each coordinate without its `TRIM` lowest and highest, `(d,)` float32."""
    ordered = rows.double().sort(dim=0).values
    cut = min(int(TRIM * len(rows)), (len(rows) - 1) // 2)
    return ordered[cut : len(rows) - cut].mean(0).float()


ROBUST_MEANS = {"geometric median": geometric_median, "trimmed mean": trimmed_mean}
