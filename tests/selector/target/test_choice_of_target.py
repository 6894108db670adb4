"""Which surrogate becomes the target, when it is dropped, and what is said of it."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.selector.parts import Parts
from trimtab.selector.ranks import spearman
from trimtab.selector.target import Target, checkpoint, choice, choose_target, panel
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.standing import Said, Standing, compare
from trimtab.selector.target.surrogate import Surrogate
from trimtab.selector.target.trust import why_not

Make = Callable[..., Surrogate]
RNG = np.random.default_rng(0)
RATES = np.linspace(0.05, 0.7, 24)
NOISE = RNG.normal(size=24)


def whole(effects: dict[str, NDArray[np.float64]], shown: NDArray[np.float64]) -> Standing:
    """Compare surrogates that are not measured on prompts."""
    said = {name: Said(values[:, None], ["all"]) for name, values in effects.items()}
    return compare(said, shown, [f"prompt {i}" for i in range(shown.shape[1])])


def vector(rate: float, other: float = 0.0) -> Tensor:
    """A vector of some behaviour rate; the number that a misled surrogate reads beside it."""
    direction = 0.1 * torch.randn(16, generator=torch.Generator().manual_seed(round(1e4 * rate)))
    direction[0], direction[1] = rate, other
    return direction


@pytest.fixture
def stage(
    staged: Callable[..., Ground], plain_surrogate: Make, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Target]:
    """Choose a target on a panel where `dataset` reads noise and `own_replies` the rate."""
    asked_under: list[Sequence[Tensor]] = []
    vectors = {
        f"v{i}": vector(rate, noise)
        for i, (rate, noise) in enumerate(zip(RATES, NOISE, strict=True))
    }

    def on_replies(_: Ground, directions: Sequence[Tensor]) -> tuple[Surrogate, ...]:
        asked_under.append(directions)
        slope = torch.full((16,), float(len(asked_under)))
        return (plain_surrogate("own_replies", lambda d: float(d[0]), slope),)

    def on_samples(_: Ground) -> tuple[Surrogate, ...]:
        return (plain_surrogate("dataset", lambda d: float(d[1]), torch.ones(16)),)

    for module in (choice, panel):
        monkeypatch.setattr(module, "on_replies", on_replies)
    monkeypatch.setattr(choice, "on_samples", on_samples)
    monkeypatch.setattr(choice, "unlike_vectors", lambda *_: vectors)
    monkeypatch.setattr(
        "trimtab.selector.target.target.gradient_along",
        lambda _, s: None if s.gradient is None else s.gradient(torch.zeros(16)),
    )
    monkeypatch.setattr(choice, "gradient_along", lambda _, s: s.gradient(torch.zeros(16)))

    def make(forced: str | None = None, can_judge: bool = True, **changes: Tensor) -> Target:
        vectors.update(changes)
        ground = staged(can_judge)
        return choose_target(ground, Parts(("a",), torch.zeros(1, 16)), forced=forced)

    return make


def test_the_surrogate_that_ranks_the_panel_as_the_replies_do_is_the_target(
    stage: Callable[..., Target],
) -> None:
    target = stage()
    assert target.name == target.trusted == "own_replies"
    found = target.rank_correlation
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.value > 0.99
    card = target.to_json()
    assert card["name"] == "own_replies"
    assert len(card["panel"]) == 24
    assert set(card["surrogates"]) == {"dataset", "own_replies", "learned"}
    assert card["surrogates"]["dataset"]["value"] < 0.6
    assert card["ceiling"]["value"] > 0.8
    assert [row["at"] for row in card["history"]] == ["start"]
    assert target.effect(vector(0.4)) == pytest.approx(0.4)


def test_a_panel_vector_that_cannot_be_calibrated_is_left_out(
    stage: Callable[..., Target],
) -> None:
    assert len(stage(broken=torch.full((16,), torch.nan)).to_json()["panel"]) == 24


def test_own_replies_are_written_anew_under_a_vector_that_is_clearly_better(
    stage: Callable[..., Target],
) -> None:
    target = stage()
    assert target.panel is not None
    assert target.panel.written.name == "v23"  # the dense one, v0, has a rate of 0.05
    assert torch.equal(target.gradient, torch.full((16,), 2.0))
    assert target.history[0]["own_replies_under"] == "v23"


def test_where_nothing_can_judge_the_datasets_margin_is_the_target_and_it_says_why(
    stage: Callable[..., Target],
) -> None:
    target = stage(can_judge=False)
    assert target.name == "dataset"
    assert target.rank_correlation.value is None
    assert "judge" in (target.rank_correlation.reason or "")
    assert target.to_json()["panel"] == []
    assert checkpoint(target, {"new": vector(0.9)}, "after pruning") is target


@pytest.mark.parametrize("forced", ["own_replies", "learned", "behavior_rate"])
def test_what_needs_a_judge_cannot_be_asked_for_without_one(
    stage: Callable[..., Target], forced: str
) -> None:
    with pytest.raises(SelectionError, match="there is no prompt"):
        stage(forced, can_judge=False)


def test_what_cannot_be_had_or_is_unknown_is_refused(stage: Callable[..., Target]) -> None:
    with pytest.raises(SelectionError, match="'weighted_replies' is not available"):
        stage("weighted_replies")
    with pytest.raises(SelectionError, match="no target is called 'guess'; choose from dataset"):
        stage("guess")


def test_what_was_asked_for_is_the_target_with_its_rank_correlation_beside_it(
    stage: Callable[..., Target],
) -> None:
    target = stage("dataset")
    assert target.name == "dataset"
    assert target.rank_correlation.value is not None and target.rank_correlation.value < 0.6
    after = checkpoint(target, {"new": vector(0.9, -9.0)}, "after pruning")
    assert (after.name, after.version) == ("dataset", 0)
    assert len(after.history) == 2


def test_the_behaviour_rate_can_be_aimed_at_along_the_best_surrogates_gradient(
    stage: Callable[..., Target],
) -> None:
    target = stage("behavior_rate")
    assert (target.name, target.trusted) == ("behavior_rate", "own_replies")
    assert target.effect(vector(0.6)) == pytest.approx(0.5, abs=0.02)  # unsteered, it is 0.1
    assert torch.equal(target.gradient, torch.full((16,), 2.0))
    assert torch.equal(target.slope(vector(0.1)), torch.full((16,), 2.0))


def misled(stage: Callable[..., Target], said: list[str]) -> tuple[Target, Target]:
    """A target that has come apart: what it says of the best so far is the reverse."""
    target = stage()
    assert target.panel is not None
    found = {f"new {i}": vector(0.95 - 0.001 * i, 5.0 + 0.1 * i) for i in range(12)}
    reversed_ = Surrogate(
        "own_replies", lambda d: np.array([float(d[0]) if d[0] < 0.9 else -float(d[0])]), ["all"]
    )
    panel_ = target.panel.__class__(
        target.panel.members,
        (target.panel.surrogates[0], reversed_),
        target.panel.members[-1],
        target.panel.standing,
    )
    before = target.__class__(**{**vars(target), "panel": panel_})
    return target, checkpoint(before, found, "after pruning", said.append)


def test_a_surrogate_that_comes_apart_at_a_checkpoint_is_dropped_and_it_is_said(
    stage: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel, "BETTER", 2.0)  # own replies stay as they are
    said: list[str] = []
    before, after = misled(stage, said)
    assert before.name == "own_replies"
    assert after.name != "own_replies"
    assert after.version == 1
    assert any(text.startswith("the target is now") for text in said)
    start, row = after.to_json()["history"]
    assert (start["target"], row["target"]) == ("own_replies", after.name)
    assert row["at"] == "after pruning"
    assert row["vectors"] == 36
    assert row["why"]
    assert row["rank_correlation"]["own_replies"] < 0.3


def test_a_target_that_holds_stays_and_the_panel_grows(stage: Callable[..., Target]) -> None:
    target = stage()
    after = checkpoint(target, {"new": vector(0.72), "old": 3 * vector(RATES[5], NOISE[5])}, "then")
    assert after.version == 0
    assert after.aim is target.aim
    card = after.to_json()
    assert [row["vector"] for row in card["panel"][24:]] == ["new"]
    assert card["panel"][24]["at"] == "then"
    assert card["history"][1]["why"] is None
    assert checkpoint(after, {"new": vector(0.72)}, "again") is after


def test_a_better_vector_at_a_checkpoint_makes_the_target_anew(
    stage: Callable[..., Target],
) -> None:
    target = stage()
    after = checkpoint(target, {"better": vector(0.95)}, "after pruning")
    assert (after.name, after.version) == ("own_replies", 1)
    assert after.panel is not None and after.panel.written.name == "better"
    assert not torch.equal(after.gradient, target.gradient)


def test_a_surrogate_is_only_dropped_for_one_that_is_clearly_better() -> None:
    shown = (np.arange(40)[None, :] < np.round(40 * RATES)[:, None]).astype(float)
    swapped = RATES.copy()
    swapped[[0, 4]] = swapped[[4, 0]]
    close = whole({"dataset": RATES, "own_replies": swapped}, shown)
    assert close.best in ("dataset", "learned")
    assert why_not(close, "own_replies") is None
    far = whole({"dataset": RATES, "own_replies": NOISE + RATES}, shown)
    assert "ranks better" in (why_not(far, "own_replies") or "") or "no longer tracks" in (
        why_not(far, "own_replies") or ""
    )
    assert why_not(far, far.best or "") is None
    assert "no longer" in (why_not(far, "weighted_replies") or "")


def test_a_better_correlation_that_chance_can_give_drops_no_surrogate() -> None:
    rng = np.random.default_rng(8)
    rates = rng.uniform(size=15)
    shown = (rng.uniform(size=(15, 20)) < rates[:, None]).astype(float)
    names = ("dataset", "own_replies", "projection")
    few = whole({name: rates + rng.normal(size=15, scale=0.25) for name in names}, shown)
    best, known = few.best or "", {n: e.value or 0.0 for n, e in few.correlations.items()}
    assert best != "dataset" and known[best] - known["dataset"] > 0.1
    assert few.surely(best, "dataset") < 0.9
    assert why_not(few, "dataset") is None


def test_a_surrogate_is_not_judged_on_the_prompts_that_it_was_measured_on() -> None:
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.2, 0.8, size=40)
    shown = (rng.uniform(size=(40, 24)) < rates[:, None]).astype(float)
    prompts = [f"group {i // 2}" for i in range(24)]
    knowing = Said(shown, prompts)  # it has seen these very replies
    found = compare({"own_replies": knowing}, shown, prompts)
    across = found.correlations["own_replies"].value
    assert across is not None
    assert float(spearman(knowing.effects, shown.mean(1))) == pytest.approx(1)
    assert across < 0.95
    assert across == pytest.approx(_half_to_half(shown), abs=0.05)


def _half_to_half(shown: NDArray[np.float64]) -> float:
    """Mean rank correlation of the rates on one random half of twelve groups with the other."""
    rng, found = np.random.default_rng(1), []
    for _ in range(100):
        half = np.repeat(rng.permutation(12) < 6, 2)
        found.append(float(spearman(shown[:, half].mean(1), shown[:, ~half].mean(1))))
    return float(np.mean(found))


def test_parts_of_groups_that_are_left_out_are_not_heard() -> None:
    said = Said(np.array([[1.0, 2.0, 6.0]]), ["a", "b", "a"])
    assert said.effects.tolist() == [3.0]
    assert said.without({"a"}).tolist() == [2.0]
    assert said.without({"b", "c"}).tolist() == [3.5]
    assert said.without({"a", "b"}).tolist() == [3.0]  # nothing else is left


def test_too_few_vectors_rank_nothing() -> None:
    shown = np.eye(9)
    found = whole({"dataset": np.arange(9.0), "projection": np.arange(9.0)}, shown)
    assert found.best is None
    assert found.weights is None
    assert found.correlations["dataset"].reason
    assert found.ceiling.value is None
    assert why_not(found, "dataset") is None


def test_where_all_rates_are_the_same_nothing_is_claimed() -> None:
    found = whole({"dataset": np.arange(12.0)}, np.ones((12, 8)))
    assert found.best is None
    assert found.ceiling.value is None and found.ceiling.reason
