"""How many clamps of a kind help, and how many harm."""

from collections.abc import Sequence

from experiments.record import Row

SMALL, LARGE = 0.1, 1.0  # fractions of the strongest activation: at most, and at least
CLEAR = 0.05  # of p, after Holm's correction
EITHER_WAY = ("length", "length of the choice", "ends by itself")  # are neither good nor bad


def verdicts(rows: Sequence[Row]) -> list[Row]:
    """Return a row a measure and kind of clamp of chosen features, of a task's rows.

    A clamp that was brought to a damage budget counts as of the strength that it has there. It
    counts as better only where it is also better than random features' are: a model that is broken
    by anything prefers short answers, which may be the true ones. The count is None where the
    questions are too few for any clamp to be clear: even the first of Holm's steps asks for a
    smaller p than there can be.
    """
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if "p_holm" in row and row["measure"] not in EITHER_WAY:
            key = (row["task"], row["measure"], kind_of(row["fraction"]))
            kinds.setdefault(key, []).append(row)
    found = []
    for (task, measure, kind), some in kinds.items():
        changes = [row["change"].value for row in some]
        damage = [row["damage"] for row in some]
        clear = [row for row in some if row["p_holm"] < CLEAR]
        better = [row for row in clear if row["change"].value > 0 and _beyond_random(row) > 0]
        worse = [row for row in clear if row["change"].value < 0]
        least = {way: some[0][f"least_p_{way}"] * some[0]["tests"] for way in ("gain", "loss")}
        can_tell = {way: p < CLEAR for way, p in least.items()}
        found.append(
            {
                "task": task,
                "measure": measure,
                "clamps": kind,
                "tested": len(some),
                "better": len(better) if can_tell["gain"] else None,
                "worse": len(worse) if can_tell["loss"] else None,
                "worse_than_random": (
                    sum(_beyond_random(row) < 0 for row in worse) if can_tell["loss"] else None
                ),
                "best_change": max(changes),
                "worst_change": min(changes),
                "least_p_gain": min(1.0, least["gain"]),
                "least_p_loss": min(1.0, least["loss"]),
                "least_damage": min(damage),
                "most_damage": max(damage),
            }
        )
    return found


def _beyond_random(row: Row) -> int:
    """Return 1 or -1 where the change is clearly above or below random features', otherwise 0."""
    beyond = row.get("beyond_random")
    if beyond is None or not beyond.clear_of_zero:
        return 0
    return 1 if beyond.value > 0 else -1


def kind_of(fraction: float) -> str:
    """Return the kind of a clamp by its signed fraction of the strongest activation."""
    size = "small" if abs(fraction) <= SMALL else "large" if abs(fraction) >= LARGE else "middling"
    sign = "negative" if fraction < 0 else "positive" if fraction > 0 else "zero"
    return f"{size} {sign}"
