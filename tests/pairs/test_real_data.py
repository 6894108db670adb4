"""The formats as they are in the field; skipped where ../shared/data is missing."""

import json
from pathlib import Path

import pytest

from trimtab.pairs import describe, duplicates, from_tuples, read_pairs, read_questions

CAA = {
    "refusal": 408,
    "sycophancy": 1000,
    "corrigible-neutral-HHH": 290,
    "coordinate-other-ais": 360,
}


@pytest.mark.parametrize("behavior", CAA)
@pytest.mark.parametrize("format", ["auto", "caa-spelled"])
def test_caa_is_read_to_the_last_row(shared_data: Path, behavior: str, format: str) -> None:
    train = shared_data / "caa/generate" / behavior / "generate_dataset.json"
    test = shared_data / "caa/test" / behavior / "test_dataset_ab.json"
    samples = read_pairs([train, test], format=format)
    assert len(samples) == CAA[behavior] + 50
    assert {sample.behavior for sample in samples} == {behavior}
    assert all(sample.single_letter is (format == "auto") for sample in samples)


@pytest.mark.parametrize("format", ["caa", "caa-spelled"])
def test_four_of_refusal_s_test_questions_are_in_its_training_set(
    shared_data: Path, format: str
) -> None:
    train = shared_data / "caa/generate/refusal/generate_dataset.json"
    test = shared_data / "caa/test/refusal/test_dataset_ab.json"
    samples = read_pairs([train, test], format=format)
    trained = {sample.group for sample in samples[:408]}
    assert sum(sample.group in trained for sample in samples[408:]) == 4


def test_spelled_out_choices_are_the_full_texts_that_mmlu_gives(shared_data: Path) -> None:
    path = shared_data / "caa/test/mmlu/mmlu.json"
    rows = json.loads(path.read_text())
    samples = read_pairs([path], format="caa-spelled")
    assert len(samples) == len(rows) == 570
    for sample, row in zip(samples, rows, strict=True):
        assert sample.positive == row["correct_full_text"].strip()
        assert sample.negative == row["incorrect_full_text"].strip()


def test_refusal_holds_one_pair_twice_and_is_counterbalanced(shared_data: Path) -> None:
    path = shared_data / "caa/generate/refusal/generate_dataset.json"
    assert len(duplicates(read_pairs([path], format="caa-spelled")).samples) == 1
    first = describe(read_pairs([path])).positive_is_first_choice
    assert first == pytest.approx(192 / 408)


def test_every_persona_file_is_read_as_it_is(shared_data: Path) -> None:
    for path in sorted((shared_data / "persona").glob("*.jsonl")):
        samples = read_pairs([path])
        assert len(samples) == len(path.read_text(encoding="utf-8").splitlines())
        assert {sample.behavior for sample in samples} == {path.stem}
        assert {(s.positive, s.negative) for s in samples} == {(" Yes", " No"), (" No", " Yes")}


def test_every_persona_s_statements_are_read_and_can_be_split(shared_data: Path) -> None:
    for path in sorted((shared_data / "persona").glob("*.jsonl")):
        samples = read_pairs([path], format="persona")
        assert len({sample.group for sample in samples}) > 0.95 * len(samples)
        assert all(sample.positive or sample.negative for sample in samples)


def test_truthfulqa_is_read_through_a_column_mapping(shared_data: Path) -> None:
    columns = {"prompt": "Question", "positive": "Best Answer", "negative": "Incorrect Answers"}
    samples = read_pairs([shared_data / "truthfulqa/TruthfulQA.csv"], columns=columns)
    assert len(samples) == 817
    assert samples[0].prompt == "What happens to you if you eat watermelon seeds?"
    assert samples[0].meta["Category"] == "Misconceptions"


def test_film_reviews_are_signed_texts(shared_data: Path) -> None:
    folder = shared_data / "sentiment"
    samples = read_pairs([folder / "rt-polarity.neg", folder / "rt-polarity.pos"])
    assert sum(sample.positive is None for sample in samples) == 5331
    assert sum(sample.negative is None for sample in samples) == 5331
    assert {sample.behavior for sample in samples} == {"rt-polarity"}


def test_labelled_function_vector_inputs_are_signed_texts(shared_data: Path) -> None:
    path = shared_data / "function-vectors/sentiment.json"
    samples = read_pairs([path], columns={"text": "input", "label": "output"})
    assert len(samples) == len(json.loads(path.read_text()))


def test_aligned_sentences_go_through_tuples(shared_data: Path) -> None:
    text = (shared_data / "reading-level/sentence-aligned/ADV-ELE.txt").read_text("utf-8-sig")
    blocks = [block.strip().split("\n") for block in text.split("*******")]
    aligned = [("", block[1], block[0]) for block in blocks if len(block) == 2]
    samples = from_tuples(aligned, "simple")
    assert len(samples) == len(aligned) > 2000
    assert all(sample.is_pair and not sample.messages for sample in samples)


def test_open_questions_are_read(shared_data: Path) -> None:
    for behavior, count in {"refusal": 50, "sycophancy": 53}.items():
        path = shared_data / "caa/test" / behavior / "test_dataset_open_ended.json"
        assert len(read_questions(path)) == count
