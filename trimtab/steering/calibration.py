"""The multiplier at which an operation does a given damage: every comparison rests on it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq

from trimtab.errors import VectorError
from trimtab.steering.apply import Steering
from trimtab.steering.damage import Damage, Divergence

TOLERANCE = 0.02  # relative error of the damage that is reached
MAX_MULTIPLIER = 1e6
UNREACHED = (
    "no multiplier reaches the damage budget: the operation does nothing to the model's "
    "predictions, or the budget is out of its reach"
)


@dataclass(frozen=True)
class Calibration:
    """A multiplier, the damage it does, and every point measured on the way."""

    multiplier: float
    damage: Divergence
    curve: tuple[tuple[float, float], ...]  # (multiplier, mean divergence), by multiplier


def calibrate(
    steering: Steering, damage: Damage, budget: float, *, start: float = 1.0
) -> Calibration:
    """Find the positive multiplier at which the mean divergence is `budget` nats per token.

    Divergence grows about with the square of the multiplier, so the root is sought in logarithms,
    where that is a straight line; two to four measurements are typical.

    Raises:
        VectorError: the budget is not positive, or no multiplier reaches it.
    """
    if not budget > 0:
        raise VectorError(f"the damage budget is {budget}; it must be above 0 nats per token")
    measured: dict[float, Divergence] = {}

    def gap(found: Divergence) -> float:
        ratio = math.log(max(found.mean, 1e-12) / budget)
        return 0.0 if abs(ratio) < TOLERANCE else ratio

    def excess(log_multiplier: float) -> float:
        multiplier = math.exp(log_multiplier)
        if multiplier not in measured:
            measured[multiplier] = damage(steering.edit(multiplier))
        return gap(measured[multiplier])

    low, high = _bracket(excess, math.log(start))
    root = low if low == high else brentq(excess, low, high, xtol=1e-6)
    multiplier = min(measured, key=lambda m: abs(math.log(m) - root))
    if gap(measured[multiplier]) != 0:  # a curve that jumps over the budget
        raise VectorError(UNREACHED)
    curve = sorted((m, d.mean) for m, d in measured.items())
    return Calibration(multiplier, measured[multiplier], tuple(curve))


def _bracket(excess: Callable[[float], float], guess: float) -> tuple[float, float]:
    """Return log-multipliers around the root, by steps that assume a quadratic.

    The first step goes where a quadratic would hit; later ones overshoot.
    """
    gap = excess(guess)
    if gap == 0:
        return guess, guess
    side = guess
    for tried in range(40):
        step = -gap / 2
        beyond = math.copysign(0.05, step) if tried else 0.0
        side, before = side + step + beyond, side
        if abs(side) > math.log(MAX_MULTIPLIER):
            break
        gap, previous = excess(side), gap
        if gap == 0:
            return side, side
        if (gap > 0) != (previous > 0):
            return min(side, before), max(side, before)
    raise VectorError(UNREACHED)
