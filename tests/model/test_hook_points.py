import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import ModelError
from trimtab.model.hook_points import SITES, HookPoint, Site, parse_hook_point


@given(st.integers(0, 10_000), st.sampled_from(SITES))
def test_a_name_is_read_back_as_the_hook_point_that_wrote_it(layer: int, site: Site) -> None:
    hook_point = HookPoint(layer, site)
    assert str(hook_point) == f"blocks.{layer}.{site}"
    assert parse_hook_point(str(hook_point)) == hook_point


@pytest.mark.parametrize(
    "name",
    [
        "blocks.-1.hook_resid_post",
        "blocks.3.hook_resid_mid",
        "blocks.3.attn.hook_z",
        "blocks.3.hook_resid_post ",
        "blocks.03.hook_resid_post",
        "blocks.³.hook_resid_post",
        "layers.3.hook_resid_post",
        "15",
        "",
    ],
)
def test_any_other_name_is_refused_and_the_four_sites_are_listed(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_hook_point(name)
    assert all(site in str(caught.value) for site in SITES)
    assert repr(name) in str(caught.value)


def test_a_negative_layer_is_refused_however_it_comes() -> None:
    with pytest.raises(ModelError, match="counted from 0"):
        HookPoint(-1, "hook_resid_post")


def test_hook_points_sort_in_the_order_of_a_forward_pass() -> None:
    names = [f"blocks.{layer}.{site}" for layer in (2, 10) for site in SITES]
    assert [str(point) for point in sorted(map(parse_hook_point, reversed(names)))] == names
