"""A pool ranked by what a store's own pairs taught: seen as the store sees, and honest about it."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from trimtab.errors import PairsError, SelectionError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.pairs.readers.pool import Prospect
from trimtab.selector.exploration.pruning import usefulness
from trimtab.selector.learned.suggest import Suggestion, suggest
from trimtab.selector.learned.training import (
    prompts_of,
    prospects_as_pairs,
    prospects_as_prompts,
)
from trimtab.selector.learned.validation import Training
from trimtab.selector.material import gather
from trimtab.steering.calibration import calibrate
from trimtab.steering.damage import Damage
from trimtab.steering.margin import Margin
from trimtab.steering.vector import SteeringVector
from trimtab.store import Store, build

POINT = HookPoint(1, "hook_resid_post")
WORDS = (
    "think", "should", "rather", "course", "quick", "brown",
    "lazy", "answer", "agree", "fox", "dog", "help",
)  # fmt: skip
SYSTEM = "The lazy dog says no."


def pair(number: int) -> Sample:
    word = WORDS[number % 12]
    return Sample(
        f"pair-{number}",
        "refusal",
        ({"role": "user", "content": f"What is the {word} question {number}?"},),
        f"Sorry, I cannot {word}.",
        f"Yes, of course I would {word} {number}.",
        f"{word} {number}",
    )


def text(number: int) -> Sample:
    one = pair(number)
    positive = number % 2 == 0
    return Sample(
        one.id, "texts", (), one.positive if positive else None,
        None if positive else one.negative, one.group,
    )  # fmt: skip


def prospects(samples: Sequence[Sample]) -> list[Prospect]:
    return [Prospect(s.id, s.messages, s.positive, s.negative) for s in samples]


POOL = [
    *prospects([pair(i) for i in (100, 101, 3)]),
    Prospect("half", ({"role": "user", "content": "What is the quick answer?"},), "No.", None),
    Prospect("bare", ({"role": "user", "content": "Would you rather help?"},)),
]


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel, tiny_sae: SAE
) -> Store:
    samples = [make(i) for make in (pair, text) for i in range(48)]
    path = tmp_path_factory.mktemp("suggesting") / "store"
    return build(path, samples, tiny_model, tiny_sae, system=SYSTEM, progress=False)


@pytest.fixture(scope="module")
def dense_store(tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel) -> Store:
    path = tmp_path_factory.mktemp("suggesting-dense") / "store"
    samples = [pair(i) for i in range(48)]
    return build(path, samples, tiny_model, None, hook_point=str(POINT), progress=False)


@pytest.fixture(scope="module")
def found(store: Store, tiny_model: LanguageModel, tiny_sae: SAE) -> Suggestion:
    return suggest(
        store, "refusal", POOL, model=tiny_model, sae=tiny_sae, budget=0.05, progress=False
    )


def test_a_prospect_is_seen_as_a_stored_pair_is(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    matrix = store.matrix("refusal")
    parts = prospects_as_pairs(
        store, tiny_model, tiny_sae, prospects([pair(i) for i in (5, 40, 0)])
    )
    assert matrix.features is not None and parts.features is not None
    rows = [matrix.sample_ids.index(id) for id in parts.sample_ids]
    torch.testing.assert_close(parts.residual, matrix.residual[rows], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parts.features, matrix.features[rows], atol=1e-5, rtol=1e-4)


def test_a_bare_prompt_is_seen_as_a_stored_ones_is(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    chosen = [pair(i) for i in (7, 2)]
    parts = prospects_as_prompts(store, tiny_model, tiny_sae, prospects(chosen))
    rows = gather(
        store, tiny_sae, "refusal", questions=None, poolings=("mean",),
        shares=(0.98, 0.01, 0.01), seed=0,
    ).pools["mean"]  # fmt: skip
    training = Training(rows, rows.sample_ids, torch.zeros(rows.n_samples).numpy())
    stored = prompts_of(store, "refusal", tiny_sae, training).parts
    assert stored.features is not None and parts.features is not None
    assert stored.features.any()
    there = [i for i, one in enumerate(chosen) if one.id in stored.sample_ids]
    assert there
    for i, one in enumerate(chosen):
        if i in there:
            torch.testing.assert_close(
                parts.features[i], stored.features[stored.sample_ids.index(one.id)],
                atol=1e-5, rtol=1e-4,
            )  # fmt: skip


def test_usefulness_is_measured_on_pairs_of_other_groups(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, found: Suggestion
) -> None:
    material = gather(
        store, tiny_sae, "refusal", questions=None, poolings=("mean",),
        shares=(0.5, 0.25, 0.25), seed=0,
    )  # fmt: skip
    parts = material.pools["mean"]
    assert found.training["sample_id"].to_list() == list(parts.sample_ids)
    full = parts.residual.mean(0)
    damage = Damage(tiny_model, POINT, max_texts=16)
    start = 0.1 * damage.residual_norm
    unit = full / full.norm()
    strength = calibrate(SteeringVector(unit, POINT), damage, 0.05, start=start).multiplier
    gradient = Margin(tiny_model, material.tune, POINT, system=SYSTEM).gradient(strength * unit)
    expected = usefulness(parts.residual, gradient)
    assert found.training["usefulness"].to_list() == pytest.approx(expected.tolist(), rel=1e-2)


def test_a_pool_is_ranked_with_reasons_and_every_kind_is_judged(found: Suggestion) -> None:
    table = found.table
    assert table["rank"].to_list() == [1, 2, 3, 4, 5]
    assert table["usefulness"].to_list() == sorted(table["usefulness"], reverse=True)
    assert table["usefulness"].is_between(0, 1).all()
    kinds = dict(table.select("id", "kind").iter_rows())
    assert kinds == {
        "pair-100": "pair", "pair-101": "pair", "pair-3": "pair", "half": "prompt",
        "bare": "prompt",
    }  # fmt: skip
    stored = dict(table.select("id", "stored").iter_rows())
    assert stored == {id: id == "pair-3" for id in stored}
    assert all(table["why"])
    assert set(found.judged) == {"pair", "prompt"}
    assert found.judged["pair"].cosine is not None
    assert found.judged["prompt"].cosine is None
    assert found.judged["pair"].n == found.training.height == 24
    assert found.top.k == 4
    json.dumps(found.to_json(), allow_nan=False)


def test_the_order_of_a_pool_changes_nothing(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, found: Suggestion
) -> None:
    again = suggest(
        store, "refusal", POOL[::-1], model=tiny_model, sae=tiny_sae, budget=0.05, progress=False
    )
    of_both = [dict(s.table.select("id", "usefulness").iter_rows()) for s in (found, again)]
    assert of_both[0] == pytest.approx(of_both[1], abs=1e-4)


def test_without_an_sae_pairs_are_ranked_by_the_residual(
    dense_store: Store, tiny_model: LanguageModel
) -> None:
    pool = [one for one in POOL if one.is_pair]
    found = suggest(dense_store, "refusal", pool, model=tiny_model, budget=0.05, progress=False)
    assert found.table.height == 3
    assert "feature" not in "".join(found.table["why"]).replace("features", "")


def test_what_cannot_be_ranked_is_said(
    store: Store, dense_store: Store, tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    with pytest.raises(SelectionError, match="give both completions, or build with an SAE"):
        suggest(dense_store, "refusal", POOL, model=tiny_model, progress=False)
    with pytest.raises(SelectionError, match="'texts' has unpaired texts"):
        suggest(store, "texts", POOL, model=tiny_model, sae=tiny_sae, progress=False)
    with pytest.raises(SelectionError, match="it has refusal, texts"):
        suggest(store, "tone", POOL, model=tiny_model, sae=tiny_sae, progress=False)
    with pytest.raises(PairsError, match="the pool is empty"):
        suggest(store, "refusal", [], model=tiny_model, sae=tiny_sae, progress=False)
    assert not list(tmp_path.iterdir())
