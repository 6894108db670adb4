"""The search resumes, never guesses, and gives the Pareto front."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.exploration import search as module
from trimtab.selector.exploration.search import search
from trimtab.selector.exploration.surface import Candidate
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.rankers import FEATURE_RANKERS, SAMPLE_RANKERS, Evidence

GRADIENT = torch.randn(12, generator=torch.Generator().manual_seed(9))


class Meter:
    """The cosine to the gradient as effect; counts what it is asked, and can break down."""

    def __init__(self, pools: Mapping[str, Parts], break_at: int | None = None) -> None:
        self.pools = pools
        self.break_at = break_at
        self.asked: list[tuple[str, Choice]] = []

    def __call__(self, pooling: str, choice: Choice) -> float:
        if len(self.asked) == self.break_at:
            raise KeyboardInterrupt
        self.asked.append((pooling, choice))
        vector = compose(self.pools[pooling], choice)
        return float(torch.cosine_similarity(vector, GRADIENT, dim=0))


@pytest.fixture
def pools(parts: Parts) -> dict[str, Parts]:
    noisier = Parts(parts.sample_ids, parts.residual + 1.0, parts.features, parts.decoder)
    return {"mean": parts, "last": noisier}


def run(meter: Meter, file: Path, trials: int, told: list[int] | None = None) -> list[Candidate]:
    def say(done: int, of: int) -> None:
        assert of == trials
        if told is not None:
            told.append(done)

    return search(meter.pools, GRADIENT, meter, file, trials=trials, seed=0, say=say)


def test_a_study_goes_on_where_it_stopped(pools: dict[str, Parts], tmp_path: Path) -> None:
    first, second, told = Meter(pools), Meter(pools), list[int]()
    three = run(first, tmp_path / "study", 3, told)
    assert told == [1, 2, 3]
    six = run(second, tmp_path / "study", 6, told)
    assert told == [1, 2, 3, 4, 5, 6]
    assert len(first.asked) == len(three) > 0
    assert len(second.asked) == len(six) - len(three) > 0
    assert six[: len(three)] == three
    assert run(second, tmp_path / "study", 3) == three  # what it had at three trials
    assert len(second.asked) == len(six) - len(three)
    done = Meter(pools)
    assert run(done, tmp_path / "study", 6) == six
    assert done.asked == []


@pytest.mark.parametrize("break_at", [0, 2, 5])
def test_an_interrupted_study_ends_as_an_unbroken_one(
    pools: dict[str, Parts], tmp_path: Path, break_at: int
) -> None:
    whole = run(Meter(pools), tmp_path / "whole", 9)
    with pytest.raises(KeyboardInterrupt):
        run(Meter(pools, break_at), tmp_path / "broken", 9)
    rest = Meter(pools)
    assert run(rest, tmp_path / "broken", 9) == whole
    assert len(rest.asked) == len(whole) - break_at


def test_a_study_survives_a_line_that_a_kill_cut_short(
    pools: dict[str, Parts], tmp_path: Path
) -> None:
    whole = run(Meter(pools), tmp_path / "whole", 6)
    run(Meter(pools), tmp_path / "study", 3)
    with (tmp_path / "study").open("ab") as file:
        file.write(b'{"op_code":5,"wor')
    assert run(Meter(pools), tmp_path / "study", 6) == whole
    assert run(Meter(pools), tmp_path / "study", 6) == whole


def test_every_candidate_is_measured_as_it_says(pools: dict[str, Parts], tmp_path: Path) -> None:
    meter = Meter(pools)
    found = run(meter, tmp_path / "study", 8)
    assert [(c.pooling, c.choice) for c in found] == meter.asked
    numbers = [int(c.origin.removeprefix("trial ")) for c in found]
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= set(range(8))
    for c in found:
        assert c.effect == Meter(pools)(c.pooling, c.choice)
        assert c.choice.features is not None
        assert 1 <= c.size[0] <= 8  # a quarter of thirty
        assert c.size == (len(c.choice.samples), len(c.choice.features))


def test_the_random_rankers_are_never_taken(
    pools: dict[str, Parts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Evidence) -> Tensor:
        raise AssertionError("random was asked")

    monkeypatch.setitem(SAMPLE_RANKERS, "random", fail)
    monkeypatch.setitem(FEATURE_RANKERS, "random", fail)
    assert len(run(Meter(pools), tmp_path / "study", 30)) >= 20
    assert "random" not in module._serious(SAMPLE_RANKERS) + module._serious(FEATURE_RANKERS)


def test_a_choice_that_cannot_be_measured_is_passed_over(
    pools: dict[str, Parts], tmp_path: Path
) -> None:
    calls = 0

    def measure(pooling: str, choice: Choice) -> float:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise VectorError("no multiplier reaches the damage budget")
        return 1.0

    found = search(pools, GRADIENT, measure, tmp_path / "study", trials=6, seed=0)
    assert len(found) == calls // 2 > 0


def test_without_an_sae_samples_alone_are_searched(dense_parts: Parts, tmp_path: Path) -> None:
    found = run(Meter({"mean": dense_parts}), tmp_path / "study", 6)
    assert len(found) == 6
    assert all(c.choice.features is None and c.size[1] == 0 for c in found)


def test_no_trials_find_nothing(pools: dict[str, Parts], tmp_path: Path) -> None:
    assert run(Meter(pools), tmp_path / "study", 0) == []
