"""Knobs become the samples and features that their rankers put first."""

import torch

from trimtab.selector.exploration.ranked import choose_by_knobs, through
from trimtab.selector.parts import Parts
from trimtab.selector.rankers import FEATURE_RANKERS, SAMPLE_RANKERS, Evidence

GRADIENT = torch.randn(12, generator=torch.Generator().manual_seed(9))


def test_knobs_choose_what_their_rankers_put_first(parts: Parts) -> None:
    knobs: dict[str, str | int] = {
        "pooling": "mean",
        "sample_ranker": "influence",
        "samples": 1,
        "feature_ranker": "influence",
        "features": 5,
        "coefficients": "mean",
    }
    choice = choose_by_knobs({"mean": parts}, GRADIENT, knobs)
    assert choice is not None
    scores = SAMPLE_RANKERS["influence"](Evidence(parts, GRADIENT))
    assert set(choice.samples) == set(scores.argsort(descending=True)[:1].tolist())
    assert parts.features is not None
    gain = FEATURE_RANKERS["influence"](Evidence(parts, GRADIENT))
    ranked = [j for j in gain.argsort(descending=True).tolist() if gain[j] > 0]
    on_chosen = parts.features[list(choice.samples)].mean(0).sign()
    agreeing = [j for j in ranked if on_chosen[j] == parts.features[:, j].mean().sign()]
    assert agreeing[:5] != ranked[:5]  # there is a sign that the chosen samples do not share
    assert set(choice.features or ()) == set(agreeing[:5])
    assert choice.coefficients is None
    with_matched = choose_by_knobs({"mean": parts}, GRADIENT, {**knobs, "coefficients": "matched"})
    assert with_matched is not None
    assert with_matched.coefficients is not None


def test_where_no_feature_qualifies_knobs_choose_nothing(parts: Parts) -> None:
    assert parts.features is not None
    silent = Parts(
        parts.sample_ids, parts.residual, torch.zeros_like(parts.features), parts.decoder
    )
    knobs: dict[str, str | int] = {
        "pooling": "mean",
        "sample_ranker": "cosine",
        "samples": 3,
        "feature_ranker": "norm",
        "features": 4,
        "coefficients": "mean",
    }
    assert choose_by_knobs({"mean": silent}, GRADIENT, knobs) is None


def test_samples_are_ranked_for_the_features_that_were_taken_first(parts: Parts) -> None:
    knobs: dict[str, str | int] = {
        "pooling": "mean",
        "sample_ranker": "influence",
        "samples": 6,
        "feature_ranker": "influence",
        "features": 2,
        "coefficients": "mean",
    }
    for_all = choose_by_knobs({"mean": parts}, GRADIENT, knobs)
    first = choose_by_knobs({"mean": parts}, GRADIENT, {**knobs, "samples": 30})
    for_features = choose_by_knobs({"mean": parts}, GRADIENT, {**knobs, "samples_for": "features"})
    assert for_all is not None
    assert first is not None
    assert for_features is not None
    assert for_features.samples != for_all.samples
    assert set(for_features.features or ()) <= set(first.features or ())
    assert parts.decoder is not None
    chosen = list(first.features or ())
    seen = through(parts, first)
    assert seen.features is not None
    torch.testing.assert_close(seen.residual, seen.features @ parts.decoder)
    assert set(seen.features.abs().sum(0).nonzero().flatten().tolist()) <= set(chosen)
    scores = SAMPLE_RANKERS["influence"](Evidence(seen, GRADIENT))
    assert set(for_features.samples) == set(scores.topk(6).indices.tolist())
