"""Audits of a store's own pairs on effects that are known: linear ones, of planted gradients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.pairs import Sample
from trimtab.selector.attribution import Meter
from trimtab.selector.audit.faults import drop_suspects, wrong_way
from trimtab.selector.intervals import Estimate
from trimtab.selector.parts import Parts
from trimtab.selector.verdicts.scores import Half, Scores

N, D = 20, 12
GRADIENT = torch.nn.functional.normalize(
    torch.randn(D, generator=torch.Generator().manual_seed(0)), dim=0
)


def samples(prefix: str, count: int) -> tuple[Sample, ...]:
    return tuple(
        Sample(f"{prefix}{i}", "b", (), f"yes {i}", f"no {i}", f"{prefix}{i}") for i in range(count)
    )


@dataclass
class KnownScales:
    """Weighs by one gradient for each sample; `backward` has those that go the wrong way."""

    backward: tuple[str, ...] = ()

    def at_budget(self, direction: Tensor) -> Tensor:
        if not direction.any():
            raise VectorError("nothing")
        unit: Tensor = direction / direction.norm()
        return unit

    def weigh(self, margin: Any, _name: str) -> Callable[[Tensor], NDArray[np.float64]]:
        signs = np.array([-1.0 if s.id in self.backward else 1.0 for s in margin.samples])
        jitter = 1 + 0.01 * np.arange(len(signs))
        return lambda vector: float(vector @ GRADIENT) * signs * jitter

    def meter(self, margin: Any, name: str) -> Meter:
        effects = self.weigh(margin, name)
        gradient = GRADIENT * float(effects(GRADIENT).mean())
        return Meter(effects, lambda _: gradient)


def margin_of(chosen: Sequence[Sample]) -> Any:
    return SimpleNamespace(samples=list(chosen), groups=[one.group for one in chosen])


def scores_of(name: str, victims: Sequence[int] = (), *, sure: bool = True) -> Scores:
    """Pairs along the gradient, with noise; the victims' sides are swapped."""
    generator = torch.Generator().manual_seed(len(name))
    rows = GRADIENT + 0.3 * torch.randn(N, D, generator=generator)
    rows[list(victims)] *= -1
    half = Half(
        name,
        Parts(tuple(f"{name}-{i}" for i in range(N)), rows),
        samples(f"{name} scored ", 12),
        samples(f"{name} judged ", 10),
    )
    mean = (rows @ GRADIENT).double() / N
    error = torch.full((N,), 1e-6 if sure else 10.0).double()
    return Scores(half, mean, error, 8, Estimate(1.0, 0.9, 1.1), rows.mean(0), 3.0)


def silent(*_: object) -> None:
    return None


def test_dropping_pairs_that_hurt_beats_dropping_as_many_random_ones() -> None:
    both = [scores_of("first", (1, 5)), scores_of("second", (7,))]
    found = drop_suspects(both, KnownScales(), margin_of, seed=0, say=silent)  # type: ignore[arg-type]
    assert found is not None
    assert set(found.dropped) == {"first-1", "first-5", "second-7"}
    assert found.without.value > found.full.value  # type: ignore[operator]
    assert found.beyond_random.clear_of_zero
    assert found.beyond_random.value > 0  # type: ignore[operator]
    assert found.to_json()["dropped"] == list(found.dropped)


def test_where_no_pair_is_sure_to_hurt_none_is_dropped() -> None:
    both = [scores_of("first", (1, 5), sure=False), scores_of("second")]
    assert drop_suspects(both, KnownScales(), margin_of, seed=0, say=silent) is None  # type: ignore[arg-type]


def test_a_vector_that_moves_every_pair_the_right_way_needs_no_remedy() -> None:
    both = [scores_of("first"), scores_of("second")]
    found = wrong_way(both, KnownScales(), margin_of, say=silent)  # type: ignore[arg-type]
    assert found.judged.value == found.mended.value == 0.0
    assert found.remedies == ("none", "none")
    assert (found.moved, found.culprits) == ((), ())


def test_pairs_that_go_the_wrong_way_are_named_with_those_to_blame() -> None:
    backward = ("first scored 3", "first scored 4", "first judged 0")
    one = scores_of("first", (2, 9))
    found = wrong_way([one], KnownScales(backward), margin_of, say=silent)  # type: ignore[arg-type]
    assert set(found.moved) == set(backward[:2])
    assert found.scored.value == pytest.approx(2 / 12)
    assert found.judged.value == pytest.approx(1 / 10)
    # To those pairs the swapped ones are the only help, so the others are to blame.
    assert len(found.culprits) == 5
    assert not {"first-2", "first-9"} & set(found.culprits)
    assert found.remedies == ("none",)  # no weighting turns round a pair of the opposite sign
    assert found.mended.value == found.judged.value
    assert found.change.value == 0


def test_audits_of_two_halves_stand_together() -> None:
    one, two = scores_of("first", (1,)), scores_of("second", (2,))
    found = [
        drop_suspects(both, KnownScales(), margin_of, seed=0, say=silent)  # type: ignore[arg-type]
        for both in ([one, two], [two, one])
    ]
    assert found[0] is not None and found[1] is not None
    assert set(found[0].dropped) == set(found[1].dropped)
    assert found[0].full.value == pytest.approx(found[1].full.value)
