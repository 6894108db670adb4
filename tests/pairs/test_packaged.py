import pytest

from trimtab.errors import PairsError
from trimtab.pairs import (
    Quality,
    describe,
    load_packaged,
    normalise_prompt,
    packaged_behaviors,
    packaged_questions,
)
from trimtab.pairs.quality import sharing_a_run


@pytest.fixture(params=packaged_behaviors())
def behavior(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def quality(behavior: str) -> Quality:
    return describe(load_packaged(behavior))


def test_at_least_four_behaviours_are_packaged() -> None:
    assert len(packaged_behaviors()) >= 4


def test_every_sample_is_a_pair_of_the_behaviour(behavior: str) -> None:
    samples = load_packaged(behavior)
    assert all(sample.is_pair and sample.messages for sample in samples)
    assert {sample.behavior for sample in samples} == {behavior}


def test_a_packaged_set_is_large_enough(behavior: str, quality: Quality) -> None:
    assert quality.pairs >= 120
    assert quality.groups >= 60
    assert len(packaged_questions(behavior)) >= 30


def test_prompts_and_questions_are_written_one_by_one(behavior: str, quality: Quality) -> None:
    questions = packaged_questions(behavior)
    assert quality.duplicate_samples == quality.duplicate_completions == 0
    assert quality.prompts_sharing_six_words == 0
    assert sharing_a_run(questions) == []


def test_no_question_is_a_prompt_of_the_pairs(behavior: str) -> None:
    prompts = {normalise_prompt(sample.prompt) for sample in load_packaged(behavior)}
    assert prompts.isdisjoint(map(normalise_prompt, packaged_questions(behavior)))


def test_neither_length_nor_first_word_gives_the_side_away(quality: Quality) -> None:
    assert quality.length_difference is not None
    assert abs(quality.length_difference) <= 2
    assert quality.opening_words_positive >= 40
    assert quality.opening_words_negative >= 40
    assert quality.first_word_accuracy is not None
    assert quality.first_word_accuracy < 0.7


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PairsError, match=r"'rudeness'; choose from .*refusal"):
        load_packaged("rudeness")
    with pytest.raises(PairsError, match="choose from"):
        packaged_questions("refusal.questions")
