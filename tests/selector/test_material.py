"""Who is in which split, and that nothing of the report leaks into the choice."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import SelectionError
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample, assign_groups
from trimtab.selector import material
from trimtab.selector.material import gather, parts_of
from trimtab.store import Store, build
from trimtab.store.reading.matrices import Differences

USER = "user"


def pair(i: int) -> Sample:
    messages = ({"role": USER, "content": f"What about the matter number {i}?"},)
    return Sample(f"p{i:02}", "calm", messages, f"Gladly, it is {i}.", f"Never, not {i}.")


def text(i: int, positive: bool) -> Sample:
    words = f"The sea was {'calm' if positive else 'rough'} on day {i}."
    return Sample(f"t{i:02}", "calm", (), words if positive else None, None if positive else words)


def gathered(
    store: Store, sae: SAE | None, questions: list[str] | None = None
) -> material.Material:
    return gather(
        store,
        sae,
        "calm",
        questions=questions,
        poolings=("mean", "last"),
        shares=(0.5, 0.25, 0.25),
        seed=0,
    )


@pytest.fixture
def paired(tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path) -> Store:
    samples = assign_groups([pair(i) for i in range(24)])
    return build(tmp_path / "pairs", samples, tiny_model, tiny_sae, progress=False)


@pytest.fixture
def unpaired(tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path) -> Store:
    samples = assign_groups([text(i, positive=i < 30) for i in range(48)])
    return build(tmp_path / "texts", samples, tiny_model, tiny_sae, progress=False)


def test_no_group_is_in_two_splits(paired: Store, tiny_sae: SAE) -> None:
    found = gathered(paired, tiny_sae)
    groups = [{s.group for s in part} for part in (found.select, found.tune, found.report)]
    assert sum(len(part) for part in groups) == len(set().union(*groups)) == 24


def test_parts_hold_the_rows_of_the_selected_samples_only(paired: Store, tiny_sae: SAE) -> None:
    found = gathered(paired, tiny_sae)
    stored = paired.matrix("calm")
    for row, sample in enumerate(found.select):
        at = stored.sample_ids.index(sample.id)
        torch.testing.assert_close(found.pools["mean"].residual[row], stored.residual[at])


def test_questions_that_are_prompts_of_other_splits_are_left_out(
    paired: Store, tiny_sae: SAE
) -> None:
    split = gathered(paired, tiny_sae)
    seen, kept = split.select[0].prompt, split.report[0].prompt
    found = gathered(paired, tiny_sae, [seen.upper(), kept, "Something new?"])
    assert found.questions_seen == (seen.upper(),)
    assert [q[-1]["content"] for q in found.questions] == [kept, "Something new?"]


def test_a_question_is_the_same_with_its_choices_and_in_other_letters(
    paired: Store, tiny_sae: SAE
) -> None:
    seen = gathered(paired, tiny_sae).select[0].prompt
    with_choices = f"{seen}\n\nChoices:\n(A) Yes\n(B) No"
    found = gathered(paired, tiny_sae, [with_choices, "Is it new?", "is it  NEW"])
    assert found.questions_seen == (with_choices,)
    assert [q[-1]["content"] for q in found.questions] == ["Is it new?"]


def test_a_draw_of_unpaired_texts_takes_the_sides_in_turn(
    unpaired: Store, tiny_sae: SAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "MAX_TUNE", 6)
    found = gathered(unpaired, tiny_sae)
    assert sum(sample.positive is not None for sample in found.tune) == 3
    assert len(found.tune) == 6


def test_a_split_without_one_of_the_sides_is_refused(
    tiny_model: LanguageModel, tmp_path: Path
) -> None:
    samples = assign_groups([text(i, positive=i != 0) for i in range(12)])
    store = build(tmp_path / "lone", samples, tiny_model, None, progress=False)
    with pytest.raises(SelectionError, match="one side only"):
        gathered(store, None)


def test_rows_of_unpaired_texts_rest_on_the_selected_texts_alone(
    unpaired: Store, tiny_sae: SAE
) -> None:
    found = gathered(unpaired, tiny_sae)
    rows = unpaired.sql(
        "SELECT sample_id, side, mean FROM residuals JOIN samples USING (sample_id)"
    )
    pooled = {row["sample_id"]: torch.tensor(row["mean"]) for row in rows.iter_rows(named=True)}
    sides = {True: [pooled[s.id] for s in found.select if s.positive]}
    sides[False] = [pooled[s.id] for s in found.select if s.negative]
    expected = torch.stack(sides[True]).mean(0) - torch.stack(sides[False]).mean(0)
    torch.testing.assert_close(found.pools["mean"].residual.mean(0), expected, atol=1e-5, rtol=1e-4)


@given(seed=st.integers(0, 2**32 - 1))
def test_what_selected_texts_do_not_differ_in_leaves_no_rounding(seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [text(i, positive=i < 18) for i in range(30)]
    select = samples[::2]
    pooled = random.exponential(3, (30, 8)).astype(np.float32)
    pooled[::2, :4] = random.exponential(3, 4) * random.integers(0, 2, 4)  # silent or constant
    signs = np.array([1 if sample.positive else -1 for sample in samples], np.float32)[:, None]
    weights = np.where(signs > 0, 30 / 18, 30 / 12).astype(np.float32)
    rows = torch.from_numpy(signs * (pooled - pooled.mean(0)) * weights)
    store = Mock(matrix=lambda *_, **__: Differences([s.id for s in samples], rows, rows, range(8)))
    found = parts_of(store, Mock(d_sae=8, W_dec=torch.eye(8)), "calm", "mean", samples, select)
    assert found.features is not None
    assert not found.features[:, :4].any()
    own = torch.from_numpy(pooled[::2])
    positive = torch.tensor([sample.positive is not None for sample in select])
    expected = own[positive].mean(0) - own[~positive].mean(0)
    torch.testing.assert_close(found.features.mean(0)[4:], expected[4:], atol=1e-5, rtol=1e-4)


def test_prompts_of_the_choice_are_the_pairs_own_each_once(paired: Store, tiny_sae: SAE) -> None:
    found = gathered(paired, tiny_sae, ["Something else?"])
    assert sorted(c[0]["content"] for c in found.prompts) == sorted(s.prompt for s in found.tune)
    assert [c[0]["content"] for c in found.questions] == ["Something else?"]


def test_where_texts_have_no_prompts_half_of_the_questions_serve_the_choice(
    unpaired: Store, tiny_sae: SAE
) -> None:
    asked = [f"What is the sea like on day {i}?" for i in range(10)]
    found = gathered(unpaired, tiny_sae, asked)
    assert len(found.prompts) == len(found.questions) == 5
    both = [c[0]["content"] for c in (*found.prompts, *found.questions)]
    assert sorted(both) == sorted(asked)


def test_samples_that_all_answer_one_prompt_are_judged_on_questions(
    tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    prompt = ({"role": USER, "content": "Tell me one thing about yourself."},)
    samples = [
        Sample(f"s{i}", "calm", prompt, f"I rest {i} hours.", f"I run {i} miles.", group=f"g{i}")
        for i in range(24)
    ]
    store = build(tmp_path / "persona", samples, tiny_model, tiny_sae, progress=False)
    asked = [f"How was day {i}?" for i in range(6)]
    assert len(gathered(store, tiny_sae, asked).prompts) == 3
    assert gathered(store, tiny_sae).questions == ()  # the one prompt was part of the choice
