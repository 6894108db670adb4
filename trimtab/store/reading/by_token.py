"""A stored sample's strongest features, token by token; no model runs."""

from typing import Any

from trimtab.errors import StoreError
from trimtab.store.store import Store

SIDES = ("prompt", "positive", "negative")

_STRONGEST = """
WITH strongest AS (
    SELECT side, position, list({feature: feature, value: value} ORDER BY value DESC, feature)
        [:$top] AS features
    FROM activations WHERE behavior = $behavior AND sample_id = $sample GROUP BY side, position)
SELECT side, position, text AS token, coalesce(features, []) AS features
FROM tokens LEFT JOIN strongest USING (side, position)
WHERE behavior = $behavior AND sample_id = $sample
ORDER BY list_position($sides, side), position
"""


def stored_features(
    store: Store, sample: str, *, behavior: str | None = None, top: int
) -> list[dict[str, Any]]:
    """Return a row for each token of a sample: side, position, token, and up to `top` features.

    `behavior` is needed only where several behaviours have a sample of that id.

    Raises:
        StoreError: there is no such sample, or several, or it was not run.
    """
    found = store.sql(
        "SELECT behavior, status FROM samples"
        " WHERE sample_id = $id AND ($behavior IS NULL OR behavior = $behavior) ORDER BY behavior",
        {"id": sample, "behavior": behavior},
    )
    if found.height != 1:
        others = ", ".join(found["behavior"])
        raise StoreError(
            f"{store.path} has samples {sample!r} of several behaviours; name one: {others}"
            if others
            else f"{store.path} has no sample {sample!r}; `trimtab sql` on `samples` lists them"
        )
    named, status = found.row(0)
    if status != "ok":
        raise StoreError(f"sample {sample!r} of {store.path} has no tokens: it is {status}")
    return store.sql(
        _STRONGEST, {"behavior": named, "sample": sample, "top": top, "sides": list(SIDES)}
    ).to_dicts()
