"""A ground on a tiny model, and what stands in for one where only its answers count."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.pairs import Sample
from trimtab.selector.bench import Bench
from trimtab.selector.journal import Journal
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.surrogate import Surrogate
from trimtab.steering.damage import Damage
from trimtab.steering.judges.classifier import train_classifier

POINT = HookPoint(1, "hook_resid_post")
WORDS = ("think", "should", "rather", "course", "quick", "brown", "lazy", "answer", "fox", "dog")
DENSE = torch.randn(16, generator=torch.Generator().manual_seed(3))
N_PROMPTS = 40

Floats = NDArray[np.float64]


def pair(number: int, word: str) -> Sample:
    return Sample(
        f"pair-{number}",
        "refusal",
        ({"role": "user", "content": f"What is the {word} question {number}?"},),
        f"Sorry, I cannot {word}.",
        f"Yes, of course I would {word} {number}.",
        word,
    )


@pytest.fixture
def ground(tiny_model: LanguageModel, tmp_path: Path) -> Ground:
    """Ten prompts of a tiny model, with ten other answered samples to show."""
    tune = tuple(pair(i, word) for i, word in enumerate(WORDS))
    others = tuple(pair(i + 10, f"{word} {word}") for i, word in enumerate(WORDS))
    bench = Bench(
        Journal(tmp_path / "journal", {}),
        POINT,
        Damage(tiny_model, POINT, max_texts=2),
        0.1,
        tiny_model,
        train_classifier(others, tiny_model),
        max_new_tokens=6,
    )
    return Ground(bench, DENSE, tune, tuple(sample.messages for sample in tune), others)


@pytest.fixture
def staged() -> Callable[..., Ground]:
    """Make a ground on which a vector's behaviour rate is what its first number says."""

    def shown(direction: Tensor | None) -> NDArray[np.bool_]:
        if direction is not None and not bool(torch.isfinite(direction).all()):
            raise VectorError("no multiplier reaches the damage budget")
        rate = 0.1 if direction is None else float(direction[0])
        return np.arange(N_PROMPTS) < round(rate * N_PROMPTS)

    def make(can_judge: bool = True) -> Ground:
        return cast(
            Ground,
            SimpleNamespace(
                shown=shown,
                can_judge=can_judge,
                dense=DENSE,
                conversations=(),
                prompt_groups=[f"prompt {i}" for i in range(N_PROMPTS)],
            ),
        )

    return make


@pytest.fixture
def plain_surrogate() -> Callable[..., Surrogate]:
    """Make a surrogate that says what a function of the direction says."""

    def make(name: str, says: Callable[[Tensor], float], slope: Tensor | None = None) -> Surrogate:
        return Surrogate(
            name,
            lambda direction: np.array([says(direction)]),
            ["all"],
            None if slope is None else lambda _: slope,
        )

    return make
