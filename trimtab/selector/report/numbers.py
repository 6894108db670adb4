"""How the report writes numbers: sensibly rounded, with real minus signs and 95 % intervals."""

import math
from collections.abc import Iterable

from trimtab.selector.intervals import Estimate

MINUS = "\N{MINUS SIGN}"
MOST_DECIMALS = 4


def number(value: float | None, decimals: int | None = None) -> str:
    """Return a number to `decimals` places, or else as short as three significant digits allow.

    None, and what is no finite number, is a dash.
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.{places([value]) if decimals is None else decimals}f}"
    if decimals is None and "." in text:
        text = text.rstrip("0").rstrip(".")
    if float(text.replace(",", "")) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def places(column: Iterable[float | None]) -> int:
    """Return the decimals at which the largest number of a column has three significant digits."""
    sizes = [abs(value) for value in column if value is not None and math.isfinite(value)]
    largest = max(sizes, default=0.0)
    return 0 if largest == 0 else min(9, max(0, 2 - math.floor(math.log10(largest))))


def estimate(found: Estimate) -> str:
    """Return `0.21 [0.17, 0.25]`; where value or interval is missing, the reason stands instead."""
    if found.value is None:
        return found.reason or "not measured"
    if found.low is None or found.high is None:
        return f"{number(found.value, 2)} ({found.reason or 'no interval'})"
    decimals = decimals_of(found)
    value, low, high = (number(x, decimals) for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def decimals_of(found: Estimate) -> int:
    """Return how many decimals an estimate's interval deserves, 2 to 4.

    As many as the interval's width asks for, and enough that a bound which is clear of zero does
    not look like zero.
    """
    if found.value is None or found.low is None or found.high is None:
        return 2
    width = found.high - found.low
    decimals = 2 if width <= 0 else max(2, -math.floor(math.log10(width)))
    if found.clear_of_zero:
        nearest = min(abs(found.low), abs(found.high))
        decimals = max(decimals, math.ceil(-math.log10(2 * nearest)))
    return min(decimals, MOST_DECIMALS)
