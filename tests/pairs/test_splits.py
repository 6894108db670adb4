import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import PairsError
from trimtab.pairs import Sample, Splits, split


def samples_of(sizes: list[int]) -> list[Sample]:
    return [
        Sample(f"s{group}-{i}", "b", (), "yes", "no", group=f"g{group}")
        for group, size in enumerate(sizes)
        for i in range(size)
    ]


def parts(splits: Splits) -> list[list[str]]:
    return [splits.select, splits.tune, splits.report]


SIZES = st.lists(st.integers(1, 12), min_size=3, max_size=40)
SHARES = st.tuples(*[st.floats(0.05, 1.0)] * 3)
SEEDS = st.integers(0, 2**32)


@given(SIZES, SEEDS, SHARES)
def test_every_sample_is_in_one_part_and_no_group_in_two(
    sizes: list[int], seed: int, shares: tuple[float, float, float]
) -> None:
    samples = samples_of(sizes)
    found = parts(split(samples, seed, shares))
    assert sorted(id for ids in found for id in ids) == sorted(sample.id for sample in samples)
    group = {sample.id: sample.group for sample in samples}
    held = [{group[id] for id in ids} for ids in found]
    assert sum(map(len, held)) == len(sizes)
    assert all(held)


@given(SIZES, SEEDS, SHARES)
def test_parts_come_near_their_shares_whatever_the_sizes_of_the_groups(
    sizes: list[int], seed: int, shares: tuple[float, float, float]
) -> None:
    found = parts(split(samples_of(sizes), seed, shares))
    for ids, share in zip(found, shares, strict=True):
        assert abs(len(ids) - share / sum(shares) * sum(sizes)) < 2 * max(sizes)


@given(SIZES, SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(
    sizes: list[int], seed: int, rng: random.Random
) -> None:
    samples = samples_of(sizes)
    shuffled = samples.copy()
    rng.shuffle(shuffled)
    one, other = split(samples, seed), split(shuffled, seed)
    assert [set(ids) for ids in parts(one)] == [set(ids) for ids in parts(other)]


def test_groups_of_one_are_split_exactly() -> None:
    found = split(samples_of([1] * 100), seed=0, shares=(50, 20, 30))
    assert [len(ids) for ids in parts(found)] == [50, 20, 30]


def test_another_seed_splits_otherwise_and_each_group_gets_everywhere() -> None:
    samples = samples_of(list(range(1, 11)))
    seen: Counter[tuple[str, int]] = Counter()
    for seed in range(60):
        for part, ids in enumerate(parts(split(samples, seed))):
            seen.update((id, part) for id in ids)
    assert all(seen[sample.id, part] for sample in samples for part in range(3))


def test_a_known_split_stays_the_same_over_versions() -> None:
    found = split(samples_of([1] * 8), seed=3)
    assert found == Splits(
        select=["s0-0", "s1-0", "s2-0", "s4-0"],
        tune=["s3-0", "s6-0"],
        report=["s5-0", "s7-0"],
    )


def test_splits_survive_json() -> None:
    splits = split(samples_of([2, 1, 3, 1]), seed=1)
    assert Splits.from_json(json.loads(json.dumps(splits.to_json()))) == splits


def test_a_broken_dict_of_splits_is_refused() -> None:
    with pytest.raises(PairsError, match="select, tune, report"):
        Splits.from_json({"select": [], "tune": []})
    with pytest.raises(PairsError, match="lists"):
        Splits.from_json({"select": [], "tune": [], "report": "abc"})


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(PairsError, match="2 groups cannot be split"):
        split(samples_of([5, 5]), seed=0)


def test_samples_without_a_group_are_refused() -> None:
    with pytest.raises(PairsError, match="s has no group"):
        split([Sample("s", "b", (), "yes", "no")], seed=0)


@pytest.mark.parametrize("shares", [(1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_shares_that_are_not_positive_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(PairsError, match="three positive numbers"):
        split(samples_of([1, 1, 1]), 0, shares)
