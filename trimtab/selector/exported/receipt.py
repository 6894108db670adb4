"""The receipt: which sample gave how much of the vector through which feature.

One row a (sample, feature): `share` is the factor of the feature's direction (of the sample's own
residual difference where `feature` is null), and `contribution` is how much of the vector's length
the row makes, so that contributions sum to the norm. The rows' sum is the stored vector, before
the multiplier.
"""

import polars as pl

from trimtab.selector.parts import Choice, Parts, compose, shares


def receipt(parts: Parts, choice: Choice) -> pl.DataFrame:
    """Return the receipt's rows: `sample_id, feature, share, contribution`, largest first."""
    factors = shares(parts, choice)
    vector = compose(parts, choice).double()
    unit = vector / vector.norm().clamp_min(1e-30)
    samples = [parts.sample_ids[i] for i in choice.samples]
    if choice.features is None:
        along = parts.residual[list(choice.samples)].double() @ unit
        frame = pl.DataFrame(
            {
                "sample_id": samples,
                "feature": pl.Series([None] * len(samples), dtype=pl.Int64),
                "share": factors[:, 0].numpy(),
                "contribution": (factors[:, 0] * along).numpy(),
            }
        )
    else:
        assert parts.decoder is not None
        along = parts.decoder[list(choice.features)].double() @ unit
        frame = pl.DataFrame(
            {
                "sample_id": [s for s in samples for _ in choice.features],
                "feature": pl.Series(list(choice.features) * len(samples), dtype=pl.Int64),
                "share": factors.flatten().numpy(),
                "contribution": (factors * along).flatten().numpy(),
            }
        ).filter(pl.col("share") != 0)
    return frame.sort(pl.col("contribution").abs(), descending=True)
