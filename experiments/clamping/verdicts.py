"""How many clamps of a kind help, and how many harm."""

from collections.abc import Sequence

from experiments.record import Row

SMALL, LARGE = 0.1, 1.0  # fractions of the strongest activation: at most, and at least
CLEAR = 0.05  # of p, after Holm's correction
EITHER_WAY = ("length",)  # is neither good nor bad


def verdicts(rows: Sequence[Row]) -> list[Row]:
    """Return a row a measure, kind of clamp and kind of features, of a task's rows.

    A clamp that was brought to a damage budget counts as of the strength that it has there.
    """
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if "p_holm" in row and row["measure"] not in EITHER_WAY:
            key = (row["task"], row["measure"], kind_of(row["fraction"]), row["features"])
            kinds.setdefault(key, []).append(row)
    found = []
    for (task, measure, kind, features), some in kinds.items():
        changes = [row["change"].value for row in some]
        clear = [row["change"].value for row in some if row["p_holm"] < CLEAR]
        damage = [row["damage"] for row in some]
        found.append(
            {
                "task": task,
                "measure": measure,
                "clamps": kind,
                "features": features,
                "tested": len(some),
                "better": sum(change > 0 for change in clear),
                "worse": sum(change < 0 for change in clear),
                "best_change": max(changes),
                "worst_change": min(changes),
                "least_damage": min(damage),
                "most_damage": max(damage),
            }
        )
    return found


def kind_of(fraction: float) -> str:
    """Return the kind of a clamp by its signed fraction of the strongest activation."""
    size = "small" if abs(fraction) <= SMALL else "large" if abs(fraction) >= LARGE else "middling"
    sign = "negative" if fraction < 0 else "positive" if fraction > 0 else "zero"
    return f"{size} {sign}"
