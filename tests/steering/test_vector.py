"""The vector itself: a vector space, and everything that it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint, Site
from trimtab.model.language_model import LanguageModel
from trimtab.steering.formats.stored import VECTOR_FILE
from trimtab.steering.generation import generate, read_prompts
from trimtab.steering.positions import Positions
from trimtab.steering.vector import SteeringVector, load_vector, save_vector

POINT = HookPoint(1, "hook_resid_post")
numbers = st.floats(-100, 100, width=32)
vectors = st.lists(numbers, min_size=3, max_size=3).map(
    lambda values: SteeringVector(torch.tensor(values), POINT)
)


def same(one: SteeringVector, other: SteeringVector) -> bool:
    places = (one.hook_point, one.positions) == (other.hook_point, other.positions)
    return places and torch.allclose(one.direction, other.direction, atol=1e-2, rtol=1e-4)


@given(vectors, vectors, vectors, numbers, numbers)
def test_vectors_of_one_place_form_a_vector_space(
    a: SteeringVector, b: SteeringVector, c: SteeringVector, x: float, y: float
) -> None:
    assert torch.equal((a + b).direction, a.direction + b.direction)
    assert same(a + b, b + a)
    assert same((a + b) + c, a + (b + c))
    assert same(x * (a + b), x * a + x * b)
    assert same((x + y) * a, x * a + y * a)
    assert same(x * (y * a), (x * y) * a)
    assert same(1.0 * a, a)
    assert same(a * x, x * a)
    assert same(a - b, a + -b)
    assert (a - a).norm == 0
    assert (-a).norm == a.norm


@given(vectors)
def test_arithmetic_leaves_its_operands_alone(a: SteeringVector) -> None:
    before = a.direction.clone()
    _ = (a + a, 2.0 * a, -a, a - a)
    assert torch.equal(a.direction, before)


@pytest.mark.parametrize(
    ("layer", "site", "positions"),
    [
        (2, "hook_resid_post", "prompt_end"),
        (1, "hook_mlp_out", "prompt_end"),
        (1, "hook_resid_post", "all"),
    ],
)
def test_vectors_of_different_places_cannot_be_added(
    layer: int, site: Site, positions: Positions
) -> None:
    one = SteeringVector(torch.ones(3), POINT)
    other = SteeringVector(torch.ones(3), HookPoint(layer, site), positions)
    attempts: list[Callable[[], object]] = [lambda: one + other, lambda: other - one]
    for combine in attempts:
        with pytest.raises(VectorError, match=rf"blocks\.{layer}\.{site}"):
            combine()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_direction_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(VectorError, match="NaN"):
        SteeringVector(torch.tensor([0.0, bad]), POINT)
    with pytest.raises(VectorError, match="NaN"):
        bad * SteeringVector(torch.ones(2), POINT)


def test_a_direction_has_one_dimension() -> None:
    with pytest.raises(VectorError, match="one dimension"):
        SteeringVector(torch.ones(2, 3), POINT)


def test_unknown_positions_are_refused_and_the_known_ones_named() -> None:
    with pytest.raises(VectorError, match="prompt_end"):
        SteeringVector(torch.ones(2), POINT, "everywhere")  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [1, 15, 17])  # a width of 1 would broadcast without a word
def test_a_vector_of_another_width_is_refused_wherever_it_is_applied(
    tiny_model: LanguageModel, width: int
) -> None:
    vector = SteeringVector(torch.ones(width), POINT)
    prompts = read_prompts(tiny_model, [({"role": "user", "content": "Yes?"},)])
    attempts: list[Callable[[], object]] = [
        lambda: vector.apply(tiny_model),
        lambda: generate(prompts, vector, max_new_tokens=2),
    ]
    for attempt in attempts:
        with pytest.raises(VectorError, match=f"width {width}"):
            attempt()


def test_any_dtype_is_kept_in_float32() -> None:
    assert SteeringVector(torch.ones(2, dtype=torch.float64), POINT).direction.dtype == (
        torch.float32
    )


@pytest.mark.parametrize("positions", ["all", "prompt_end", "generated"])
def test_a_saved_vector_comes_back_bit_for_bit_with_its_multiplier(
    tmp_path: Path, positions: Positions
) -> None:
    vector = SteeringVector(torch.randn(6)[::2], HookPoint(7, "hook_attn_out"), positions)
    save_vector(vector, tmp_path / VECTOR_FILE, multiplier=0.1)
    for path in (tmp_path, tmp_path / VECTOR_FILE, str(tmp_path)):
        loaded, multiplier = load_vector(path)
        assert torch.equal(loaded.direction, vector.direction)
        assert (loaded.hook_point, loaded.positions) == (vector.hook_point, positions)
        assert multiplier == 0.1


def test_what_is_no_vector_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"\x00" * 64)
    for path in (tmp_path, tmp_path / "missing", tmp_path / "noise"):
        with pytest.raises(VectorError, match=str(tmp_path)):
            load_vector(path)
