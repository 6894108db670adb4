"""SAEs are compared by their vectors, chosen on one part of the pairs and measured on another."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from experiments.sae import behavior as study
from experiments.sae.behavior import VECTORS, choose, compare, main
from experiments.sae.behavior_table import TABLE, draw
from experiments.sae.yardstick import BUDGET, Yardstick, packaged
from trimtab.errors import SelectionError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Message, Sample
from trimtab.selector.journal import Journal
from trimtab.selector.parts import Choice
from trimtab.steering.damage import Damage
from trimtab.steering.generation import generate, read_prompts
from trimtab.steering.margin import Margin
from trimtab.steering.vector import SteeringVector
from trimtab.store import build

POINT = HookPoint(1, "hook_resid_post")
WORDS = ("think", "should", "rather", "course", "quick", "brown", "lazy", "answer", "fox", "dog")
D_MODEL = 16


class Linear(nn.Module):
    """Features are what `rows` read, positive and negative part apart; those rows are written."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.W_dec = nn.Parameter(torch.cat([rows, -rows]))
        self.b_dec = nn.Parameter(torch.zeros(rows.shape[1]))

    def encode(self, x: Tensor) -> Tensor:
        return (x @ self.W_dec.T).relu()


class Dead(Linear):
    def encode(self, x: Tensor) -> Tensor:
        return torch.zeros(*x.shape[:-1], len(self.W_dec))


def sae(name: str, module: nn.Module, point: HookPoint = POINT) -> SAE:
    return SAE(name, point, module.requires_grad_(False))


EXACT = sae("exact", Linear(torch.eye(D_MODEL)))
HALF = sae("half", Linear(torch.eye(D_MODEL)[:8]))
DEAD = sae("dead", Dead(2 * torch.eye(D_MODEL)))  # other weights: results go by their hash


def ask(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def pair(number: int) -> Sample:
    word = WORDS[number % 10]
    return Sample(
        f"pair-{number}",
        "refusal",
        ask(f"What is the {word} question {number}?"),
        f"Sorry, I cannot {word}.",
        f"Yes, of course I would {word} {number}.",
        word,
    )


PAIRS = [pair(i) for i in range(20)]
SELECT = tuple(p for i, p in enumerate(PAIRS) if i % 10 < 5)
REPORT = tuple(p for i, p in enumerate(PAIRS) if i % 10 >= 5)


@pytest.fixture(scope="module")
def damage(tiny_model: LanguageModel) -> Damage:
    return Damage(tiny_model, POINT, max_texts=2)


@pytest.fixture
def make(tiny_model: LanguageModel, damage: Damage) -> Callable[..., Yardstick]:
    def make(select: tuple[Sample, ...] = SELECT, report: tuple[Sample, ...] = REPORT) -> Yardstick:
        questions = (ask("What now?"), ask("Agree?"), ask("Which fox?"))
        return Yardstick("refusal", tiny_model, POINT, damage, select, report, questions)

    return make


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl", {})


def by_vector(rows: list[dict[str, Any]], of: SAE | None = None) -> dict[str, dict[str, Any]]:
    return {row["vector"]: row for row in rows if row["sae"] == (of and of.spec)}


def test_the_differences_are_the_stores(
    make: Callable[..., Yardstick], tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    store = build(tmp_path / "store", list(SELECT), tiny_model, tiny_sae, progress=False)
    stored = store.matrix("refusal")
    parts = make().parts(tiny_sae)
    assert parts.sample_ids == tuple(stored.sample_ids)
    assert parts.features is not None and stored.features is not None
    torch.testing.assert_close(parts.residual, stored.residual, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts.features, stored.features, atol=1e-4, rtol=1e-4)


def test_an_sae_that_reconstructs_exactly_does_what_the_dense_vector_does(
    make: Callable[..., Yardstick], journal: Journal
) -> None:
    rows = compare(make(), [EXACT], journal)
    full, dense = by_vector(rows, EXACT)["full"], by_vector(rows)["dense"]
    assert full["cosine"] == pytest.approx(1)
    assert full["explained"] == pytest.approx(1)
    np.testing.assert_allclose(full["effects"], dense["effects"], atol=1e-5)
    assert full["replies"] == dense["replies"]
    assert full["rate_beyond_dense"] == 0


def test_what_an_sae_leaves_out_is_missing_from_its_full_vector(
    make: Callable[..., Yardstick], journal: Journal
) -> None:
    yardstick = make()
    full = by_vector(compare(yardstick, [HALF], journal), HALF)["full"]
    kept = float(yardstick.dense[:8].norm() / yardstick.dense.norm())
    assert full["cosine"] == pytest.approx(kept, abs=1e-5)
    assert full["explained"] == pytest.approx(kept**2, abs=1e-5)


def test_every_vector_is_measured_at_the_same_damage_on_the_pairs_to_report(
    make: Callable[..., Yardstick], journal: Journal, tiny_model: LanguageModel, damage: Damage
) -> None:
    yardstick = make()
    rows = compare(yardstick, [HALF], journal)
    vectors = {**by_vector(rows, HALF), "dense": by_vector(rows)["dense"]}
    assert set(vectors) == {*VECTORS, "dense"}
    assert all(row["kl"] == pytest.approx(BUDGET, rel=0.03) for row in vectors.values())
    dense = SteeringVector(yardstick.dense / yardstick.dense.norm(), POINT)
    change = dense.edit(vectors["dense"]["multiplier"])
    assert change is not None
    assert damage(change).mean == pytest.approx(BUDGET, rel=0.03)
    margin = Margin(tiny_model, REPORT, POINT)
    np.testing.assert_allclose(vectors["dense"]["effects"], margin.effects(change), atol=1e-5)
    unsteered = by_vector(rows)["unsteered"]
    assert unsteered["replies"] == generate(read_prompts(tiny_model, yardstick.questions))
    assert unsteered["effect"] == 0


def test_the_best_20_are_those_with_the_largest_first_order_influence(
    make: Callable[..., Yardstick], tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    yardstick = make()
    parts = yardstick.parts(tiny_sae)
    assert parts.features is not None
    gradient = Margin(tiny_model, SELECT, POINT).gradient(torch.zeros(D_MODEL))
    torch.testing.assert_close(yardstick.gradient, gradient)
    mean = parts.features.mean(0)
    influence = mean * (tiny_sae.W_dec @ gradient)
    best = choose(parts, gradient, "best 20")
    assert best is not None
    expected = [int(j) for j in influence.argsort(descending=True)[:20] if influence[j] > 0]
    assert len(expected) == 20
    assert best == Choice(tuple(range(len(SELECT))), tuple(expected))
    full = choose(parts, gradient, "full")
    assert full is not None and full.features is not None
    assert set(full.features) == set(mean.nonzero().flatten().tolist())


def test_no_choice_sees_the_pairs_to_report(
    make: Callable[..., Yardstick], tmp_path: Path, tiny_sae: SAE
) -> None:
    swapped = tuple(replace(s, positive=s.negative, negative=s.positive) for s in REPORT[::-1])
    other_select = tuple(
        replace(s, positive=t.negative) for s, t in zip(SELECT, SELECT[::-1], strict=True)
    )

    def features(name: str, yardstick: Yardstick) -> dict[str, list[int]]:
        rows = compare(yardstick, [tiny_sae], Journal(tmp_path / name, {}))
        return {name: row["features"] for name, row in by_vector(rows, tiny_sae).items()}

    chosen = features("as it is", make())
    assert features("other report", make(report=swapped)) == chosen
    assert features("other select", make(select=other_select))["best 20"] != chosen["best 20"]


def test_a_packaged_behaviour_is_split_by_group_and_a_minus_swaps_its_sides(
    tiny_model: LanguageModel, damage: Damage
) -> None:
    common: dict[str, Any] = {"model": tiny_model, "hook_point": POINT, "damage": damage}
    tone = packaged("tone", 0, **common)
    assert not {s.group for s in tone.select} & {s.group for s in tone.report}
    assert len(tone.select) + len(tone.report) == 160
    assert len(tone.report) > 40
    away = packaged("-tone", 0, **common)
    assert [(s.positive, s.negative) for s in away.report] == [
        (s.negative, s.positive) for s in tone.report
    ]
    assert away.questions == tone.questions
    assert away.behavior == "-tone"


def test_a_resumed_run_measures_nothing_twice_and_a_new_sae_costs_only_itself(
    make: Callable[..., Yardstick], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[float] = []
    honest = Yardstick.measure

    def counting(self: Yardstick, direction: Tensor, *, start: float) -> dict[str, Any]:
        measured.append(start)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return honest(self, direction, start=start)

    monkeypatch.setattr(Yardstick, "measure", counting)
    with pytest.raises(KeyboardInterrupt):
        compare(make(), [HALF], journal)
    whole = compare(make(), [HALF], Journal(journal.path, {}))
    assert len(measured) == 1 + len(VECTORS) + 1  # the interrupted one had to be done again

    def fail(*_: object) -> None:
        raise AssertionError("the model was asked again")

    with monkeypatch.context() as patched:
        for prepared in ("tokens", "gradient", "margin", "prompts", "classifier"):
            patched.setattr(Yardstick, prepared, property(fail))
        assert compare(make(), [HALF], Journal(journal.path, {})) == whole

    before = len(measured)
    both = compare(make(), [HALF, EXACT], Journal(journal.path, {}))
    assert len(measured) == before + len(VECTORS)
    assert both[: len(whole)] == whole


def test_an_sae_that_never_fires_is_reported_and_the_others_go_on(
    make: Callable[..., Yardstick], journal: Journal
) -> None:
    rows = compare(make(), [DEAD, EXACT], journal)
    assert all(row["reason"] and row["effect"] is None for row in by_vector(rows, DEAD).values())
    assert by_vector(rows, EXACT)["full"]["effect"] is not None


@pytest.fixture
def run(
    make: Callable[..., Yardstick],
    tiny_model: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., Path]:
    """Call the command with SAEs by name on a small behaviour; returns its --out."""
    saes = {found.spec: found for found in (EXACT, HALF, DEAD)}
    saes["elsewhere"] = sae("elsewhere", Linear(torch.eye(D_MODEL)), HookPoint(2, POINT.site))
    monkeypatch.setattr(study, "load_model", lambda *_, **__: tiny_model)
    monkeypatch.setattr(study, "load_sae", lambda spec, _: saes[spec])
    monkeypatch.setattr(study, "DAMAGE_TEXTS", 2)

    def named(behavior: str, *_: Any, **__: Any) -> Yardstick:
        return replace(make(), behavior=behavior)

    monkeypatch.setattr(study, "packaged", named)

    def run(*specs: str, **options: Any) -> Path:
        main(list(specs), tmp_path / "out", **{"behaviors": "refusal, -tone", **options})
        return tmp_path / "out"

    return run


def test_an_sae_that_is_added_later_stands_beside_the_earlier_ones(
    run: Callable[..., Path],
) -> None:
    out = run("half", "dead")
    first = pl.read_parquet(out / TABLE)
    assert len(first) == 2 * (2 + 2 * len(VECTORS))
    both = pl.read_parquet(run("exact") / TABLE)
    assert len(both) == 2 * (2 + 3 * len(VECTORS))
    assert not both.select("sae", "behavior", "vector").is_duplicated().any()
    kept = first.sort("behavior", "sae", "vector")
    again = both.filter(pl.col("sae").ne_missing("exact")).sort("behavior", "sae", "vector")
    assert again.equals(kept)
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["seed"] == 0
    assert {"commit", "versions", "saes", "created_at"} <= set(config)


def test_other_settings_are_not_mixed_into_the_same_results(run: Callable[..., Path]) -> None:
    run("half")
    with pytest.raises(SelectionError, match="seed"):
        run("half", seed=1)


def test_saes_of_two_hook_points_are_not_compared(run: Callable[..., Path]) -> None:
    with pytest.raises(SelectionError, match=r"blocks\.1.*blocks\.2"):
        run("half", "elsewhere")


def test_the_table_is_drawn_again_from_the_parquet_alone(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("half", "dead")
    drawn = capsys.readouterr().out
    (out / "journal.jsonl").unlink()
    (out / "config.json").unlink()
    draw(out)
    assert capsys.readouterr().out == drawn
    for word in ("half", "dead", "dense", "unsteered", "best 20", "-tone", "no feature differs"):
        assert word in drawn
    full = pl.read_parquet(out / TABLE).row(
        by_predicate=(pl.col("sae") == "half")
        & (pl.col("vector") == "full")
        & (pl.col("behavior") == "refusal"),
        named=True,
    )
    assert f"{full['explained']:.2f}" in drawn


def test_a_folder_without_results_says_so(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=TABLE):
        draw(tmp_path, Console())


def test_drawing_needs_no_torch() -> None:
    code = "import sys, experiments.sae.behavior_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
