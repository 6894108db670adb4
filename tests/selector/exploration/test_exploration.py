"""Exploring for a target that changes on the way: all that comes back is measured on the last."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.selector.exploration import explore as exploration
from trimtab.selector.exploration.explore import EARLIER, Exploration, explore
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.target import Ground, Target
from trimtab.selector.target.surrogate import Surrogate

GRADIENTS = [torch.randn(12, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2, 3)]


def aimed_at(version: int) -> Target:
    gradient = GRADIENTS[version]

    def effects(direction: Tensor) -> np.ndarray:
        return np.array([float(torch.cosine_similarity(direction, gradient, dim=0))])

    aim = Surrogate("dataset", effects, ["all"], lambda _: gradient)
    calibrated = SimpleNamespace(calibrate=lambda _: SimpleNamespace(multiplier=2.0))
    ground = cast(Ground, SimpleNamespace(bench=calibrated))
    return Target(ground, aim, "dataset", gradient, version=version)


def run(
    parts: Parts, work: Path, monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, int]
) -> tuple[Exploration, list[str]]:
    """Explore while the checkpoints of these names make the target another version."""
    looked: list[str] = []

    def checkpoint(target: Target, found: Mapping[str, Tensor], at: str, _: object) -> Target:
        assert 1 <= len(found) <= exploration.CHECKED
        effects = [target.effect(direction) for direction in found.values()]
        assert effects == sorted(effects, reverse=True)
        looked.append(at)
        return aimed_at(changes[at]) if at in changes else replace(target)

    monkeypatch.setattr(exploration, "checkpoint", checkpoint)
    monkeypatch.setattr(exploration, "CHECK_EVERY", 4)
    noisier = Parts(parts.sample_ids, parts.residual + 1.0, parts.features, parts.decoder)
    pools = {"mean": parts, "last": noisier}
    dense = compose(parts, Choice(tuple(range(parts.n_samples))))
    found = explore(
        aimed_at(0),
        pools,
        "mean",
        dense,
        work,
        tolerance=0.9,
        trials=10,
        seed=0,
        say=lambda *_: None,
    )
    for candidate in found.candidates:
        direction = compose(pools[candidate.pooling], candidate.choice)
        assert candidate.effect == pytest.approx(found.target.effect(direction), abs=1e-6)
    return found, looked


def trials_in(study: Path) -> int:
    """How many trials Optuna's journal has opened."""
    return study.read_bytes().count(b'"op_code":4,')


def test_the_target_is_checked_after_the_survey_and_at_intervals_of_the_search(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, looked = run(parts, tmp_path, monkeypatch, {})
    assert looked == ["after the survey", "after 4 trials", "after 8 trials", "after 10 trials"]
    assert found.target.version == 0
    origins = [c.origin for c in found.candidates]
    assert not any(origin.endswith(EARLIER) for origin in origins)
    assert "trial 9" in origins
    assert [file.name for file in tmp_path.iterdir()] == ["study-0.journal"]


def test_the_survey_is_made_anew_for_a_target_that_changed_after_it(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = run(parts, tmp_path, monkeypatch, {"after the survey": 1})
    whole = found.sample_curve[0]
    dense = compose(parts, Choice(whole.kept))
    assert whole.effect == pytest.approx(aimed_at(1).effect(dense), abs=1e-6)
    assert any(c.origin.endswith(EARLIER) for c in found.candidates)
    assert (tmp_path / "study-1.journal").exists()
    assert not (tmp_path / "study-0.journal").exists()


def test_a_search_whose_target_changes_goes_on_in_a_study_of_its_own(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = run(parts, tmp_path, monkeypatch, {"after 4 trials": 1, "after 10 trials": 2})
    assert found.target.version == 2
    assert {file.name for file in tmp_path.iterdir()} == {"study-0.journal", "study-1.journal"}
    assert all(c.origin.count(EARLIER) == 1 for c in found.candidates)
    assert {"random"} < {c.method for c in found.candidates}
    before = [trials_in(file) for file in sorted(tmp_path.iterdir())]
    again, _ = run(parts, tmp_path, monkeypatch, {"after 4 trials": 1, "after 10 trials": 2})
    assert again.candidates == found.candidates  # it resumes, and no trial runs twice
    assert [trials_in(file) for file in sorted(tmp_path.iterdir())] == before == [4, 6]
