"""The study of attributions measures everything once, resumes, and is drawn without a model."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from experiments.attribution.data_faults import _over_seeds, anti_steering, recovery
from experiments.attribution.lab import BUDGET, Lab
from experiments.attribution.sizes import QUICK
from experiments.attribution.study import largest_features, negatives, study
from experiments.attribution.table import FIGURE, TABLES, draw
from experiments.attribution.truth import full_game
from trimtab.errors import SelectionError, VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.selector.audit import poison
from trimtab.selector.journal import Journal
from trimtab.selector.parts import Parts
from trimtab.selector.scales import Scales
from trimtab.steering.damage import Damage
from trimtab.steering.margin import Margin
from trimtab.store import Store, build

POINT = HookPoint(1, "hook_resid_post")
TINY = QUICK.__class__(
    halves=12,
    small=4,
    small_sizes=(4, 8),
    parts=10,
    calibrated=10,
    features=12,
    pairs=6,
    budget=12,
    draws=2,
    seeds=2,
    shares=(0.2,),
    measured_in_poison=False,
    damage_texts=2,
)


@pytest.fixture(scope="module")
def results(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("results")
    study(store, "refusal", tiny_model, tiny_sae, out, sizes=TINY)
    return out


def test_every_estimator_is_scored_on_scored_and_on_held_out_pairs(results: Path) -> None:
    lds = pl.read_parquet(results / "lds.parquet")
    kinds = set(lds.select("unit", "subsets").iter_rows())
    assert kinds == {
        ("samples", "halves"),
        ("samples", "8 to 32 samples"),
        ("samples", "halves at equal damage"),
        ("features", "halves"),
        ("cells", "halves"),
    }
    halves = lds.filter(unit="samples", subsets="halves")
    assert {"first_order", "shapley", "lasso", "random"} <= set(halves["estimator"])
    assert halves["lds_held_out"].null_count() == 0
    costs = dict(halves.select("estimator", "cost").iter_rows())
    assert costs["cosine"] == 0 < costs["first_order"] < costs["leave_one_out"]
    exact = dict(halves.select("estimator", "lds_scored").iter_rows())
    assert exact["jackknife"] > 0.8


def test_every_subset_is_kept_with_its_effects(results: Path) -> None:
    subsets = pl.read_parquet(results / "subsets.parquet").filter(unit="samples", subsets="halves")
    assert len(subsets) == TINY.halves
    assert set(subsets["members"].list.len()) == {10}  # of the 20 that vectors are made of
    assert set(subsets["scored"].list.len()) == {TINY.pairs}


def test_recall_recovery_and_brittleness_have_their_controls(results: Path) -> None:
    recall = pl.read_parquet(results / "recall.parquet")
    assert set(recall["kind"]) == {"flip", "shuffle"}
    assert "random" in set(recall["estimator"])
    recovery = pl.read_parquet(results / "recovery.parquet")
    assert {"clean", "poisoned", "geometric median", "trimmed mean", "dropped by random"} <= set(
        recovery["vector"]
    )
    curves = pl.read_parquet(results / "brittleness.parquet")
    at_none = curves.filter(dropped=0)["effect"]
    assert at_none.max() == pytest.approx(at_none.min())
    assert "random" in set(curves["estimator"])


def test_the_config_says_what_ran(results: Path) -> None:
    config = json.loads((results / "config.json").read_text(encoding="utf-8"))
    assert config["settings"]["seed"] == 0
    assert config["settings"]["halves"] == TINY.halves
    assert config["versions"]["trimtab"]
    assert config["commit"]
    assert config["pairs"] == {"scored": 6, "held_out": 6}


def test_a_finished_study_measures_nothing_again(
    results: Path,
    store: Store,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = pl.read_parquet(results / "lds.parquet")

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Margin, "effects", never)
    monkeypatch.setattr(Margin, "gradient", never)
    study(store, "refusal", tiny_model, tiny_sae, results, sizes=TINY)
    assert pl.read_parquet(results / "lds.parquet").equals(before)
    with pytest.raises(SelectionError, match="seed: 0 then, 1 now"):
        study(store, "refusal", tiny_model, tiny_sae, results, sizes=TINY, seed=1)


def test_tables_and_figure_are_drawn_from_the_folder_alone(results: Path) -> None:
    printed = draw(results)
    for shown in TABLES.values():
        assert shown.title in printed
    assert "<svg" in (results / FIGURE).read_text(encoding="utf-8")
    code = "import sys, experiments.attribution.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def scales(model: LanguageModel, folder: Path) -> Scales:
    journal = Journal(folder / "journal.jsonl", {})
    return Scales(journal, POINT, Damage(model, POINT, max_texts=2), BUDGET)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"has no lds\.parquet"):
        draw(tmp_path)


def test_the_pooled_negative_sides_are_the_stores(store: Store, pairs: list[Sample]) -> None:
    samples = pairs[:5]
    sides = negatives(store, "refusal", samples)
    assert sides is not None
    positive = store.sql("SELECT sample_id, mean FROM residuals WHERE side = 'positive'")
    pooled = dict(positive.iter_rows())
    found = torch.tensor([pooled[s.id] for s in samples]) - sides
    torch.testing.assert_close(found, store.matrix("refusal").residual[:5], atol=1e-5, rtol=1e-5)


def test_unpaired_texts_are_flipped_and_not_shuffled(
    pairs: list[Sample], tiny_model: LanguageModel, tmp_path: Path
) -> None:
    texts = [replace(pair, negative=None) for pair in pairs[:20]]
    texts += [replace(pair, positive=None) for pair in pairs[20:]]
    built = build(tmp_path / "store", texts, tiny_model, None, progress=False)
    study(built, "refusal", tiny_model, None, tmp_path / "out", sizes=TINY)
    recall = pl.read_parquet(tmp_path / "out" / "recall.parquet")
    assert set(recall["kind"]) == {"flip"}
    assert "flip" in draw(tmp_path / "out")


def test_the_largest_features_are_those_with_the_longest_terms(tiny_sae: SAE) -> None:
    features = torch.zeros(3, 48)
    features[:, 7], features[:, 3], features[:, 9] = 5.0, 4.0, 0.1
    parts = Parts(("a", "b", "c"), torch.zeros(3, 16), features, tiny_sae.W_dec)
    kept = largest_features(parts, 2)
    assert kept.features is not None and kept.decoder is not None
    assert kept.features[0].tolist() == [4.0, 5.0]
    assert torch.equal(kept.decoder, tiny_sae.W_dec[[3, 7]])


def test_pairs_that_go_the_wrong_way_are_traced_to_training_pairs(
    pairs: list[Sample], tiny_model: LanguageModel, tmp_path: Path
) -> None:
    scored, held_out = pairs[:8], pairs[8:14]
    lab = Lab(
        Scales(
            Journal(tmp_path / "journal.jsonl", {}),
            POINT,
            Damage(tiny_model, POINT, max_texts=2),
            BUDGET,
        ),
        {
            "scored": Margin(tiny_model, scored, POINT),
            "held_out": Margin(tiny_model, held_out, POINT),
        },
    )
    along = lab.margins["scored"].gradient(torch.zeros(16))
    noise = 0.5 * along.norm() * torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    harmful = Parts(tuple(map(str, range(12))), noise - along)
    table, culprits = anti_steering(lab, full_game(lab, harmful, TINY, 0), TINY, lambda _: None)
    full = next(row for row in table if row["pairs"] == "scored" and row["vector"] == "full")
    assert full["wrong_way"].value > 0
    assert {"drop 10%", "re-weight 1"} <= {row["vector"] for row in table}
    assert len(culprits) == 10
    assert culprits[0]["score"] <= culprits[-1]["score"]


def test_a_vector_that_nothing_brings_to_the_budget_has_no_effect_of_zero(
    pairs: list[Sample], tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.jsonl", {})
    damage = Damage(tiny_model, POINT, max_texts=2)
    margins = {name: Margin(tiny_model, pairs[:4], POINT) for name in ("scored", "held_out")}
    lab = Lab(Scales(journal, POINT, damage, BUDGET), margins)
    rows = torch.randn(10, 16, generator=torch.Generator().manual_seed(0))
    game = full_game(lab, Parts(tuple(map(str, range(10))), rows), TINY, 0)
    whole = rows.mean(0)
    at_budget = Scales.at_budget
    refused: list[Tensor] = []

    def refuse_one(self: Scales, direction: Tensor) -> Tensor:
        """Refuse the poisoned vector of the first seed, which is the first after the clean one."""
        if not torch.equal(direction, whole) and not refused:
            refused.append(direction)
            raise VectorError("no multiplier")
        return at_budget(self, direction)

    monkeypatch.setattr(Scales, "at_budget", refuse_one)
    found = {row["vector"]: row for row in recovery(lab, game, TINY, lambda _: None)}
    poisoned = found["poisoned"]
    assert poisoned["left_out"] == "1 of 2 vectors cannot be brought to the damage budget"
    victims = poison.draw_victims(10, 0.2, game.seed + 1)
    direction = poison.flip(Parts(game.parts.sample_ids, rows), victims).residual.mean(0)
    effects = lab.effects("held_out")(lab.at_equal_damage(direction))
    assert poisoned["effect"].value == pytest.approx(effects.mean())
    assert "left_out" not in found["the victims dropped"]


def test_without_any_vector_at_the_budget_there_is_a_reason_and_no_number() -> None:
    row = _over_seeds([None, None], np.ones(4), list("abcd"))
    assert row["effect"].value is None
    assert row["of_clean"].reason == "2 of 2 vectors cannot be brought to the damage budget"
    assert _over_seeds([np.ones(4)], None, list("abcd"))["of_clean"].value is None


def test_where_no_pair_goes_the_wrong_way_nothing_is_mended(
    pairs: list[Sample], tiny_model: LanguageModel, tmp_path: Path
) -> None:
    lab = Lab(
        Scales(
            Journal(tmp_path / "journal.jsonl", {}),
            POINT,
            Damage(tiny_model, POINT, max_texts=2),
            BUDGET,
        ),
        {name: Margin(tiny_model, pairs[:1], POINT) for name in ("scored", "held_out")},
    )
    along = lab.margins["scored"].gradient(torch.zeros(16))
    helpful = Parts(("a", "b"), torch.stack([along, along]))
    table, culprits = anti_steering(lab, full_game(lab, helpful, TINY, 0), TINY, lambda _: None)
    assert [row["vector"] for row in table] == ["full", "full"]
    assert culprits == []
