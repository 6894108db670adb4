"""Running sums and strongest places agree with what the whole stream would give."""

from collections import defaultdict

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.model.features.running import Strongest, Sums

N = 3
activation = st.tuples(
    st.integers(0, N - 1), st.integers(-1, 6), st.floats(0.125, 8, width=16)
)  # feature, token, value
stream = st.lists(st.lists(activation, max_size=12), max_size=8)


def columns(rows: list[tuple[int, int, float]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features, tokens, values = zip(*rows, strict=True) if rows else ((), (), ())
    return torch.tensor(features).long(), torch.tensor(tokens).long(), torch.tensor(values)


@settings(deadline=None)
@given(stream)
def test_sums_are_those_of_the_whole_stream(batches: list[list[tuple[int, int, float]]]) -> None:
    sums = Sums(N, entries=8)  # room for every token, though merged many times
    exact: dict[tuple[int, int], float] = defaultdict(float)
    for rows in batches:
        sums.add(*columns(rows))
        for feature, token, value in rows:
            if token >= 0:
                exact[feature, token] += value
    sums.merge()
    assert {(f, t): v for f, t, v in sums.table.iter_rows()} == dict(exact)
    assert sums.table["value"].to_list() == sorted(exact.values(), reverse=True)


def test_light_tokens_are_forgotten_and_heavy_ones_keep_their_exact_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    sums = Sums(2, entries=40)
    heavy = torch.zeros(2)
    for _ in range(60):
        tokens = torch.randint(5, 5000, (50,), generator=generator)
        features = torch.randint(0, 2, (50,), generator=generator)
        tokens[:5], features[:5] = 1, torch.tensor([0, 1, 0, 1, 0])
        values = torch.rand(50, generator=generator).where(tokens != 1, torch.tensor(4.0))
        heavy.index_add_(0, features[:5], values[:5])
        sums.add(features, tokens, values)
        assert sums.table.height <= 2 * 40
    sums.merge()
    assert [tuple(row) for row in sums.table.head(2).iter_rows()] == [
        (0, 1, float(heavy[0])),
        (1, 1, float(heavy[1])),
    ]


@settings(deadline=None)
@given(stream)
def test_the_strongest_places_are_those_of_the_whole_stream(
    batches: list[list[tuple[int, int, float]]],
) -> None:
    kept = 2
    strongest = Strongest(N, width=3, same=slice(0, 2), kept=kept)
    best: dict[int, dict[tuple[int, int], float]] = defaultdict(dict)
    for number, rows in enumerate(batches):
        features, tokens, values = columns(rows)
        # the last of the three ids differs every time and must make no difference
        around = torch.stack([tokens, tokens // 2, torch.full_like(tokens, number)], dim=1)
        strongest.add(features, values, around, [f"source {t}" for t in tokens.tolist()])
        for feature, token, value in rows:
            few = (token, token // 2)
            best[feature][few] = max(best[feature].get(few, 0.0), value)
    strongest.merge()
    for feature in range(N):
        rows_of = [
            row for row in strongest.table.iter_rows(named=True) if row["feature"] == feature
        ]
        expected = sorted(best[feature].values(), reverse=True)[:kept]
        assert [row["value"] for row in rows_of] == expected
        fews = [tuple(row["around"][:2]) for row in rows_of]
        assert len(set(fews)) == len(fews)
        for row, few in zip(rows_of, fews, strict=True):
            assert best[feature][few] == row["value"]
            assert row["source"] == f"source {few[0]}"


def test_the_floor_drops_nothing_that_belongs() -> None:
    strongest = Strongest(1, width=1, same=slice(0, 1), kept=3)
    for value in range(1, 100):
        one = torch.tensor([value])
        strongest.add(torch.tensor([0]), one.float(), one[:, None], ["s"])
    strongest.merge()
    assert strongest.table["value"].to_list() == [99, 98, 97]
