"""What is known of each feature over all samples of a store: SQL for a catalog in the making."""

from trimtab.store.catalog.pooling import TOP_TOKENS

FEATURES = f"""
WITH seen AS (
    SELECT feature, sum(n_active)::BIGINT AS n_active, sum(n_samples)::BIGINT AS n_samples,
        max(max) AS max, sum(total) / sum(n_active) AS mean_active
    FROM staged_features GROUP BY feature),
strongest AS (
    SELECT feature, text, max(value) AS value FROM staged_strongest GROUP BY feature, text),
texts AS (
    SELECT feature, list(text ORDER BY value DESC, text)[:{TOP_TOKENS}] AS top_tokens
    FROM strongest GROUP BY feature)
SELECT feature, n_active / (SELECT count(*) FROM tokens WHERE position > 0) AS firing_rate,
    n_active, n_samples, max, mean_active, top_tokens
FROM seen JOIN texts USING (feature) ORDER BY feature
"""
"""A row a feature that was ever active: how often, how strong, and on what."""

# Features are zero where they have no row, and never below: zeros are the lowest ranks, all tied.
CONTRAST = """
WITH sizes AS (
    SELECT behavior, min(sample) AS number, count(positive) AS n_pos, count(negative) AS n_neg
    FROM samples WHERE status = 'ok' GROUP BY behavior),
means AS (
    SELECT number, p.feature, p.sequence % 3 = 1 AS positive, p.mean::DOUBLE AS mean
    FROM pooled p JOIN samples s ON s.sample = p.sequence // 3 JOIN sizes USING (behavior)
    WHERE p.sequence % 3 > 0),
ranked AS (
    SELECT *, (rank() OVER up + count(*) OVER up) / 2 AS rank
    FROM means WINDOW up AS (PARTITION BY number, feature ORDER BY mean)),
sums AS (
    SELECT number, feature,
        count(*) FILTER (positive) AS k_pos, count(*) FILTER (NOT positive) AS k_neg,
        coalesce(sum(mean) FILTER (positive), 0) AS sum_pos,
        coalesce(sum(mean) FILTER (NOT positive), 0) AS sum_neg,
        coalesce(sum(mean * mean) FILTER (positive), 0) AS square_pos,
        coalesce(sum(mean * mean) FILTER (NOT positive), 0) AS square_neg,
        coalesce(sum(rank) FILTER (positive), 0) AS ranks
    FROM ranked GROUP BY number, feature),
moments AS (
    SELECT *, sum_pos / n_pos AS mean_pos, sum_neg / n_neg AS mean_neg,
        greatest(square_pos - sum_pos * sum_pos / n_pos, 0) / nullif(n_pos - 1, 0) AS var_pos,
        greatest(square_neg - sum_neg * sum_neg / n_neg, 0) / nullif(n_neg - 1, 0) AS var_neg,
        ranks - k_pos * (k_pos + 1) / 2 + k_pos * (n_neg - k_neg)
            + (n_pos - k_pos) * (n_neg - k_neg) / 2 AS wins
    FROM sums JOIN sizes USING (number) WHERE n_pos > 0 AND n_neg > 0)
SELECT behavior, feature, mean_pos, mean_neg, mean_pos - mean_neg AS diff,
    (mean_pos - mean_neg) / nullif(sqrt((var_pos + var_neg) / 2), 0) AS cohens_d,
    wins / (n_pos * n_neg) AS auc, n_pos, n_neg
FROM moments ORDER BY behavior, feature
"""
"""A row a behaviour and feature: both sides' means over sequences, Cohen's d and AUC."""
