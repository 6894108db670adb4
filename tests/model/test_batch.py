from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.model.batch import pad

Sequences = list[list[int]]


@given(
    st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=5),
    st.sampled_from(["left", "right"]),
)
def test_the_mask_gives_every_sequence_back_with_positions_from_zero(
    sequences: Sequences, side: Literal["left", "right"]
) -> None:
    batch = pad(sequences, side, pad_id=7)
    longest = max(map(len, sequences))
    for row, ids in enumerate(sequences):
        mask = batch.attention_mask[row].bool()
        assert batch.input_ids[row][mask].tolist() == ids
        assert batch.position_ids[row][mask].tolist() == list(range(len(ids)))
        assert batch.input_ids[row][~mask].tolist() == [7] * (longest - len(ids))
        assert batch.position_ids[row][~mask].tolist() == [0] * (longest - len(ids))


@pytest.mark.parametrize(("side", "kept"), [("left", [0, 0, 1]), ("right", [1, 0, 0])])
def test_pads_are_on_the_side_asked_for(side: Literal["left", "right"], kept: list[int]) -> None:
    assert pad([[1], [1, 2, 3]], side, pad_id=0).attention_mask[0].tolist() == kept


def test_no_sequences_make_an_empty_batch() -> None:
    assert pad([], "left", pad_id=0).input_ids.shape == (0, 0)
