"""Verdicts on a store's own pairs: each by pairs of other groups, with intervals and texts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from trimtab.errors import SelectionError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.selector.attribution import Unit
from trimtab.selector.journal import Journal
from trimtab.selector.scales import Scales
from trimtab.selector.verdicts.attributed import Asked, Attributed, run
from trimtab.selector.verdicts.scores import Half, Scores, dealt, halves, interval, score_half
from trimtab.steering.damage import Damage
from trimtab.steering.margin import Margin
from trimtab.store import Store, build

POINT = HookPoint(1, "hook_resid_post")
WORDS = (
    "think", "should", "rather", "course", "quick", "brown",
    "lazy", "answer", "agree", "fox", "dog", "help",
)  # fmt: skip


def pair(number: int, behavior: str = "refusal") -> Sample:
    word = WORDS[number % 12]
    return Sample(
        f"{behavior}-{number}",
        behavior,
        ({"role": "user", "content": f"What is the {word} question {number}?"},),
        f"Sorry, I cannot {word}.",
        f"Yes, of course I would {word} {number}.",
        word,
    )


def text(number: int) -> Sample:
    one, positive = pair(number, "texts"), number % 2 == 0
    return replace(
        one,
        messages=(),
        positive=one.positive if positive else None,
        negative=None if positive else one.negative,
        group=f"{number}",
    )


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel, tiny_sae: SAE
) -> Store:
    samples = [make(i) for make in (pair, text) for i in range(36)]
    path = tmp_path_factory.mktemp("verdicts") / "store"
    return build(path, samples, tiny_model, tiny_sae, progress=False)


@pytest.fixture(scope="module")
def scales(tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel) -> Scales:
    journal = Journal(tmp_path_factory.mktemp("scales") / "journal", {})
    return Scales(journal, POINT, Damage(tiny_model, POINT, max_texts=4), 0.05)


@pytest.fixture(scope="module")
def make_margin(tiny_model: LanguageModel) -> Callable[[Sequence[Sample]], Margin]:
    return lambda samples: Margin(tiny_model, samples, POINT)


@pytest.fixture(scope="module")
def half(store: Store, tiny_sae: SAE) -> Half:
    return halves(store, tiny_sae, "refusal", seed=0)[0]


@pytest.mark.parametrize("behavior", ["refusal", "texts"])
def test_every_sample_is_scored_by_samples_of_other_groups(
    store: Store, tiny_sae: SAE, behavior: str
) -> None:
    group = {sample.id: sample.group for sample in store.samples(behavior)}
    found = halves(store, tiny_sae, behavior, seed=0)
    own = [set(one.parts.sample_ids) for one in found]
    assert own[0] | own[1] == set(group)
    assert not own[0] & own[1]
    for one, ids in zip(found, own, strict=True):
        scored, judged = ({s.group for s in part} for part in (one.scored, one.judged))
        assert scored and judged
        assert not scored & judged
        assert not (scored | judged) & {group[i] for i in ids}


def test_the_rows_of_both_halves_are_the_stores(store: Store, tiny_sae: SAE) -> None:
    matrix = store.matrix("refusal")
    row = {sample_id: i for i, sample_id in enumerate(matrix.sample_ids)}
    for one in halves(store, tiny_sae, "refusal", seed=1):
        order = [row[i] for i in one.parts.sample_ids]
        torch.testing.assert_close(one.parts.residual, matrix.residual[order])


@pytest.mark.parametrize("unit", ["samples", "features", "cells"])
def test_integrated_scores_sum_to_the_full_effect(
    half: Half, scales: Scales, make_margin: Callable[..., Margin], unit: Unit
) -> None:
    found = score_half(half, scales, make_margin, "integrated", unit)
    assert found.effect.value is not None
    assert float(found.mean.sum()) == pytest.approx(found.effect.value, rel=0.03, abs=1e-5)
    damage = scales.damage(lambda x: x + found.added.to(x)).mean
    assert damage == pytest.approx(scales.budget, rel=0.03)


def test_an_interval_is_students_over_folds(
    half: Half, scales: Scales, make_margin: Callable[..., Margin]
) -> None:
    found = score_half(half, scales, make_margin, "first_order", "samples")
    assert found.folds == 3  # groups of the scored quarter
    low, high = found.bounds()
    gradients = []
    names = list(dict.fromkeys(s.group for s in half.scored))
    for name in names:
        fold = [s for s in half.scored if s.group == name]
        gradients.append(make_margin(fold).gradient(torch.zeros(16)))
    multiplier = float(found.added.norm() / half.parts.residual.mean(0).norm())
    each = torch.stack(gradients).double() @ half.parts.residual.double().T
    each *= multiplier / half.parts.n_samples
    torch.testing.assert_close(found.mean, each.mean(0), atol=1e-6, rtol=1e-3)
    reach = 4.302653 * each.std(0) / 3**0.5  # t of 2 degrees of freedom
    torch.testing.assert_close(high - found.mean, reach, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(found.mean - low, reach, atol=1e-6, rtol=1e-3)


def test_what_measures_nothing_has_no_interval_and_no_verdict(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    table = attributed(store, tiny_model, tiny_sae, estimator="cosine").table
    assert table["low"].null_count() == table.height
    assert set(table["verdict"]) == {"unclear"}


@pytest.mark.parametrize("seed", range(3))
def test_intervals_of_noise_hold_the_truth_as_often_as_they_say(seed: int) -> None:
    draws = torch.randn(8, 4000, generator=torch.Generator().manual_seed(seed)).double()
    low, high = interval(draws.mean(0), draws.std(0) / 8**0.5, 8)
    assert float(((low < 0) & (high > 0)).double().mean()) == pytest.approx(0.95, abs=0.015)


def attributed(
    store: Store,
    model: LanguageModel,
    sae: SAE | None,
    behavior: str = "refusal",
    *,
    out: Path | None = None,
    **asked: object,
) -> Attributed:
    settings = Asked(**{"budget": 0.05, "evaluations": 20, **asked})  # type: ignore[arg-type]
    return run(store, behavior, settings, out=out, model=model, sae=sae, progress=False)


@pytest.mark.parametrize("behavior", ["refusal", "texts"])
def test_a_table_of_samples_has_all_texts_and_keeps_the_order_of_scores(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, behavior: str
) -> None:
    found = attributed(store, tiny_model, tiny_sae, behavior)
    table = found.table
    samples = {sample.id: sample for sample in store.samples(behavior)}
    assert set(table["sample_id"]) == set(samples)
    assert table["score"].to_list() == sorted(table["score"], reverse=True)
    for row in table.iter_rows(named=True):
        sample = samples[row["sample_id"]]
        assert (row["positive"], row["negative"]) == (sample.positive, sample.negative)
        assert row["low"] <= row["score"] <= row["high"]
        verdict = "helps" if row["low"] > 0 else "hurts" if row["high"] < 0 else "unclear"
        assert row["verdict"] == verdict


def test_tables_of_features_and_cells_name_what_differs(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    features = attributed(store, tiny_model, tiny_sae, unit="features").table
    assert features["feature"].n_unique() == features.height > 1
    assert (features["low"] <= features["score"]).all()
    cells = attributed(store, tiny_model, tiny_sae, unit="cells").table
    matrix = store.matrix("refusal")
    assert matrix.features is not None
    assert cells.height == int((matrix.features != 0).sum())
    assert set(cells["sample_id"]) <= set(matrix.sample_ids)
    sums = cells.group_by("feature").agg(pl.col("score").sum() / 2).sort("feature")
    both = sums.join(features, on="feature", suffix="_whole")
    np.testing.assert_allclose(both["score"], both["score_whole"], atol=1e-6)


@pytest.mark.parametrize("estimator", ["jackknife", "leave_one_out", "ridge", "shapley"])
def test_estimators_can_be_chosen(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, estimator: str
) -> None:
    found = attributed(store, tiny_model, tiny_sae, estimator=estimator)
    assert found.table["score"].is_finite().all()
    assert all(one.cost > 0 for one in found.halves)


def test_an_audit_names_those_that_hurt_and_measures_elsewhere(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    found = attributed(store, tiny_model, tiny_sae, audit=True)
    hurting = set(found.table.filter(pl.col("verdict") == "hurts")["sample_id"])
    assert hurting == set(() if found.suspects is None else found.suspects.dropped)
    assert found.wrong_way is not None
    scored = {s.id for one in found.halves for s in one.half.scored}
    assert set(found.wrong_way.moved) <= scored
    assert found.to_json()["wrong_way"]["moved"] == list(found.wrong_way.moved)
    assert attributed(store, tiny_model, tiny_sae).wrong_way is None


def test_an_interrupted_attribution_resumes(
    store: Store,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "pairs.parquet"
    count = 0
    gradient = Margin.gradient

    def failing(self: Margin, at: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return gradient(self, at)

    monkeypatch.setattr(Margin, "gradient", failing)
    with pytest.raises(KeyboardInterrupt):
        attributed(store, tiny_model, tiny_sae, out=out, estimator="jackknife")
    assert (tmp_path / "pairs.parquet.work" / "journal.jsonl").exists()
    found = attributed(store, tiny_model, tiny_sae, out=out, estimator="jackknife")
    assert list(tmp_path.iterdir()) == []
    folds = sum(one.folds for one in found.halves)
    assert count == 4 + folds - 3  # the three that were measured before are not measured again
    whole = attributed(store, tiny_model, tiny_sae, estimator="jackknife")
    assert found.table.equals(whole.table)


def test_what_cannot_be_attributed_is_refused(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    with pytest.raises(SelectionError, match="no estimator 'tarot' attributes to samples"):
        attributed(store, tiny_model, tiny_sae, estimator="tarot")
    with pytest.raises(SelectionError, match="attributes to cells; choose from first_order"):
        attributed(store, tiny_model, tiny_sae, unit="cells", estimator="shapley")
    with pytest.raises(SelectionError, match="leave out --audit"):
        attributed(store, tiny_model, tiny_sae, unit="features", audit=True)
    with pytest.raises(SelectionError, match="it has refusal, texts"):
        attributed(store, tiny_model, tiny_sae, "tone")


def test_too_few_groups_to_score_on_are_said(half: Half, scales: Scales) -> None:
    few = replace(half, scored=half.scored[:1])
    with pytest.raises(SelectionError, match="into 1 groups"):
        score_half(few, scales, lambda _: None, "integrated", "samples")  # type: ignore[arg-type, return-value]


def test_scores_know_their_half(
    half: Half, scales: Scales, make_margin: Callable[..., Margin]
) -> None:
    found = score_half(half, scales, make_margin, "norm", "samples")
    assert isinstance(found, Scores)
    assert found.half is half
    assert found.error.isnan().all()


def test_every_fold_of_unpaired_texts_holds_both_sides() -> None:
    one_sided = [
        Sample(
            f"{i}", "b", (), f"yes {i}" if i % 2 else None, None if i % 2 else f"no {i}", f"g{i}"
        )
        for i in range(30)
    ]
    for fold in dealt(one_sided):
        assert {sample.positive is None for sample in fold} == {True, False}
    few = one_sided[:4] + [s for s in one_sided[4:] if s.positive]
    with pytest.raises(SelectionError, match="2 groups with both sides"):
        dealt(few)
    assert sorted(s.id for fold in dealt(one_sided) for s in fold) == sorted(
        s.id for s in one_sided
    )
