import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trimtab.errors import PairsError
from trimtab.pairs import from_tuples, read_pairs, read_questions

Rows = list[dict[str, Any]]
Write = Callable[[str, Rows], Path]

PAIR = {"prompt": "Tea?", "positive": "I love it.", "negative": "Never."}
CAA = {
    "question": "Do you like tea?\n\nChoices:\n (A) Yes\n (B) No",
    "answer_matching_behavior": " (B)",
    "answer_not_matching_behavior": "(A)",
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, rows: Rows) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        elif path.suffix == ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        elif path.suffix == ".parquet":
            pl.DataFrame(rows).write_parquet(path)
        else:
            pl.DataFrame(rows).write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
        return path

    return write


# trimtab's own rows


def test_own_rows_keep_all_they_say(write: Write) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tea?"}]
    row = {"id": 7, "behavior": "thirst", "messages": messages, "positive": "Yes!"}
    row |= {"negative": "No.", "group": "drinks", "meta": {"a": 1}, "source": "me"}
    (sample,) = read_pairs([write("x.jsonl", [row])], behavior="unused")
    assert (sample.id, sample.behavior, sample.group) == ("7", "thirst", "drinks")
    assert sample.messages == tuple(messages)
    assert (sample.positive, sample.negative) == ("Yes!", "No.")
    assert sample.meta == {"a": 1, "source": "me"}


@pytest.mark.parametrize("name", ["tea.json", "tea.jsonl", "tea.csv", "tea.tsv", "tea.parquet"])
def test_the_same_rows_are_read_from_every_kind_of_file(write: Write, name: str) -> None:
    rows = [PAIR, {"prompt": 'A, "b"\nc?', "positive": "1", "negative": "−2é"}]
    samples = read_pairs([write(name, rows)])
    assert [s.id for s in samples] == ["tea-0001", "tea-0002"]
    assert [s.prompt for s in samples] == ["Tea?", 'A, "b"\nc?']
    assert [(s.positive, s.negative) for s in samples] == [("I love it.", "Never."), ("1", "−2é")]
    assert {s.behavior for s in samples} == {"tea"}


def test_an_empty_prompt_makes_raw_texts_and_a_null_side_an_unpaired_one(write: Write) -> None:
    rows: Rows = [
        {"prompt": "", "positive": "Good.", "negative": None},
        {"prompt": "", "positive": None, "negative": "Bad."},
    ]
    first, second = read_pairs([write("x.jsonl", rows)])
    assert first.messages == ()
    assert first.sides == (("positive", "Good."),)
    assert second.sides == (("negative", "Bad."),)


def test_columns_are_mapped_and_the_others_go_to_meta(write: Write) -> None:
    rows = [{"Question": "Tea?", "Best": "Yes.", "Worst": "No.", "positive": "so-so", "Topic": "t"}]
    columns = {"prompt": "Question", "positive": "Best", "negative": "Worst", "group": "Topic"}
    for name in ("x.csv", "x.parquet", "x.json"):
        (sample,) = read_pairs([write(name, rows)], columns=columns)
        assert (sample.prompt, sample.positive, sample.negative) == ("Tea?", "Yes.", "No.")
        assert sample.group == "t"
        assert sample.meta == {}


def test_csv_cells_stay_the_texts_they_are(tmp_path: Path) -> None:
    (tmp_path / "sums.csv").write_text("id,prompt,positive,negative\n007,4 - 4?,0,0.0\n")
    (sample,) = read_pairs([tmp_path / "sums.csv"])
    assert (sample.id, sample.positive, sample.negative) == ("007", "0", "0.0")


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + b"\r\n\r\n")
    assert len(read_pairs([path])) == 1
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbfprompt,positive,negative\r\nTea?,Yes.,No.\r\n")
    assert read_pairs([path])[0].prompt == "Tea?"


# ids, behaviours and groups over files


def test_ids_are_unique_over_files_and_a_file_added_at_the_end_changes_none(write: Write) -> None:
    train = write("caa/train/tea/generate_dataset.json", [CAA, CAA])
    test = write("caa/test/tea/test_dataset_ab.json", [CAA])
    other = write("caa/test/coffee/test_dataset_ab.json", [CAA])
    ids = [sample.id for sample in read_pairs([train, test, other])]
    assert ids == ["tea-0001", "tea-0002", "tea-0003", "coffee-0001"]
    assert [sample.id for sample in read_pairs([train])] == ids[:2]


def test_the_behaviour_is_the_row_s_then_the_argument_then_the_name(write: Write) -> None:
    path = write("narcissism.jsonl", [PAIR, PAIR | {"behavior": "pride"}])
    assert [s.behavior for s in read_pairs([path])] == ["narcissism", "pride"]
    assert [s.behavior for s in read_pairs([path], behavior="x")] == ["x", "pride"]


def test_a_prompt_in_training_and_test_files_is_one_group(write: Write) -> None:
    train = write("a.jsonl", [PAIR, PAIR | {"prompt": "Coffee?"}])
    test = write("b.jsonl", [PAIR | {"prompt": " tea!"}])
    first, second, third = read_pairs([train, test])
    assert first.group == third.group != second.group


def test_lettered_and_spelled_out_questions_are_one_group(write: Write) -> None:
    path = write("tea.json", [CAA])
    (lettered,) = read_pairs([path], format="caa")
    (spelled,) = read_pairs([path], format="caa-spelled")
    assert lettered.group == spelled.group == "do you like tea"


def test_an_id_that_comes_twice_is_refused_with_both_places(write: Write) -> None:
    one = write("a.jsonl", [PAIR | {"id": "1"}])
    two = write("b.jsonl", [PAIR, PAIR | {"id": "1"}])
    with pytest.raises(
        PairsError, match=r"b\.jsonl, line 2: the id '1' is taken by .*a\.jsonl, line 1"
    ):
        read_pairs([one, two])


# CAA and model-written evaluations


def test_letters_keep_the_choices_in_the_prompt(write: Write) -> None:
    (sample,) = read_pairs([write("tea.json", [CAA])])
    assert sample.prompt == CAA["question"]
    assert (sample.positive, sample.negative) == (" (B)", "(A)")
    assert sample.single_letter


def test_spelled_out_choices_leave_the_prompt(write: Write) -> None:
    (sample,) = read_pairs([write("tea.json", [CAA])], format="caa-spelled")
    assert sample.messages == ({"role": "user", "content": "Do you like tea?"},)
    assert (sample.positive, sample.negative) == ("No", "Yes")


def test_persona_answers_stay_as_they_are(write: Write) -> None:
    row = {"question": 'Would you say this?\n"I am great"', "statement": "I am great"}
    row |= {"answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
    (sample,) = read_pairs([write("pride.jsonl", [row | {"label_confidence": 0.9}])])
    assert (sample.positive, sample.negative) == (" Yes", " No")
    assert sample.meta == {"statement": "I am great", "label_confidence": 0.9}


def persona_row(statement: str, answer: str) -> dict[str, Any]:
    other = " No" if answer == " Yes" else " Yes"
    return {
        "question": f'Is the following statement something you would say?\n"{statement}"',
        "statement": statement,
        "label_confidence": 0.9,
        "answer_matching_behavior": answer,
        "answer_not_matching_behavior": other,
    }


def test_a_persona_s_statements_are_signed_replies_to_one_prompt(write: Write) -> None:
    rows = [persona_row("I love crowds", " Yes"), persona_row("I stay at home", " No")]
    liked, disliked = read_pairs([write("extraversion.jsonl", rows)], format="persona")
    assert (liked.positive, liked.negative) == ("I love crowds", None)
    assert (disliked.positive, disliked.negative) == (None, "I stay at home")
    assert liked.messages == disliked.messages
    assert liked.meta == {"label_confidence": 0.9}


def test_a_persona_s_statements_can_be_split_although_their_prompt_is_the_same(
    write: Write,
) -> None:
    said = {"I love crowds": " Yes", "I stay at home": " No", "i love  crowds!": " Yes"}
    path = write("extraversion.jsonl", [persona_row(text, said[text]) for text in said])
    groups = [sample.group for sample in read_pairs([path], format="persona")]
    assert groups[0] == groups[2] != groups[1]


def test_a_persona_s_empty_groups_are_the_statements_themselves(write: Write) -> None:
    said = {"I love crowds": None, "I stay at home": "", "I dance": " ", "I sing": "music"}
    rows = [
        {**persona_row(text, " No" if group else " Yes"), "group": group}
        for text, group in said.items()
    ]
    groups = [s.group for s in read_pairs([write("odd.jsonl", rows)], format="persona")]
    assert groups == ["i love crowds", "i stay at home", "i dance", "music"]


def test_a_persona_s_answer_that_is_neither_yes_nor_no_is_refused(write: Write) -> None:
    path = write("odd.jsonl", [persona_row("I love crowds", " (A)")])
    with pytest.raises(PairsError, match=r"odd.jsonl, line 1: .* must be Yes or No, not ' \(A\)'"):
        read_pairs([path], format="persona")


def test_a_dialogue_becomes_messages_with_its_lead_in_meta(write: Write) -> None:
    question = f"Human: {CAA['question']}\n\nAssistant: I believe the best answer is"
    path = write("tea.json", [CAA | {"question": question}])
    for format, prompt, more in (
        ("caa", CAA["question"], {}),
        ("caa-spelled", "Do you like tea?", {"positive_choice": "B"}),
    ):
        (sample,) = read_pairs([path], format=format)
        assert sample.messages == ({"role": "user", "content": prompt},)
        assert sample.meta == {"lead": "I believe the best answer is", **more}


def test_of_several_other_answers_the_first_is_taken_and_the_rest_kept(write: Write) -> None:
    row = CAA | {"question": "Tea?\n(A) Yes\n(B) No\n(C) Maybe"}
    row["answer_not_matching_behavior"] = [" (C)", " (A)"]  # type: ignore[assignment]
    (sample,) = read_pairs([write("tea.jsonl", [row])], format="caa-spelled")
    assert (sample.positive, sample.negative) == ("No", "Maybe")
    assert sample.meta == {"other_negatives": [" (A)"], "positive_choice": "B"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "Tea?"}, r"tea\.json, row 2: the question has no choices.*format='caa'"),
        ({"question": "(A) Yes\n(B) No"}, r"row 2: the question has no choices"),
        ({"answer_matching_behavior": "(C)"}, r"row 2: the answer '\(C\)' names none.*A, B"),
        ({"answer_matching_behavior": "Yes"}, r"row 2: the answer 'Yes' names none"),
        ({"answer_not_matching_behavior": []}, r"row 2: 'answer_not_matching_behavior' must be"),
        ({"question": "Tea?\n(A) Yes\n(B) Yes"}, r"row 2: .*the same"),
    ],
)
def test_choices_that_cannot_be_spelled_out_are_refused(
    write: Write, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PairsError, match=message):
        read_pairs([write("tea.json", [CAA, CAA | change])], format="caa-spelled")


# unpaired texts


def test_two_files_of_texts_are_signed_by_their_names_and_never_paired(tmp_path: Path) -> None:
    (tmp_path / "film.neg").write_text("Dull.\n\n  Bad \u2028 still one. \n", encoding="utf-8")
    (tmp_path / "film.pos").write_text("Great.\n", encoding="utf-8")
    samples = read_pairs([tmp_path / "film.neg", tmp_path / "film.pos"])
    assert [(s.id, s.positive, s.negative) for s in samples] == [
        ("film-0001", None, "Dull."),
        ("film-0002", None, "Bad \u2028 still one."),
        ("film-0003", "Great.", None),
    ]
    assert all(s.messages == () and s.behavior == "film" for s in samples)


@pytest.mark.parametrize("name", ["film.csv", "film.jsonl", "film.parquet"])
def test_a_label_column_signs_texts(write: Write, name: str) -> None:
    rows = [{"text": "Great.", "label": 1}, {"text": "Dull.", "label": 0}]
    first, second = read_pairs([write(name, rows)])
    assert first.sides == (("positive", "Great."),)
    assert second.sides == (("negative", "Dull."),)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "Hm.", "label": "neutral"}], r"line 1: the label 'neutral' names neither side"),
        ([{"text": "Hm.", "label": 1}], "every text is positive"),
        ([{"text": "Hm.", "label": 1}, {"text": "Hm."}], r"line 2: there is no 'label'"),
    ],
)
def test_texts_without_two_clear_sides_are_refused(write: Write, rows: Rows, message: str) -> None:
    with pytest.raises(PairsError, match=message):
        read_pairs([write("film.jsonl", rows)])


def test_a_text_file_without_a_side_in_its_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.txt"
    path.write_text("Great.\n")
    with pytest.raises(PairsError, match=r"film\.txt: the name does not tell.*NAME\.pos"):
        read_pairs([path])


def test_pairs_and_texts_of_one_behaviour_are_refused(write: Write) -> None:
    pairs = write("a.jsonl", [PAIR])
    texts = write("b.jsonl", [{"text": "Hm.", "label": 1}, {"text": "No.", "label": 0}])
    with pytest.raises(PairsError, match="mixed"):
        read_pairs([pairs, texts], behavior="one")
    assert len(read_pairs([pairs, texts])) == 3


# what cannot be read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"[]", "is empty"),
        (b'{"prompt": "caf\xe9"}', r"not UTF-8: byte 15 is 0xe9.*iconv -f ISO-8859-1"),
        ('{"prompt": "a"}'.encode("utf-16"), "iconv -f UTF-16"),
        (b"\x1f\x8b\x08\x00", "gunzip"),
        (json.dumps(PAIR).encode() + b"\n{oops}", r"line 2 is not JSON.*column 2"),
        (b"[1, 2\n,", r"not JSON.*line 2"),
        (b"[" * 100_000, "cannot be read"),
        (b"[3]", r"row 1: expected an object with named keys"),
        (b'{"input": 1, "output": 2}', r"keys \(input, output\) fit no format(.|\n)*caa-spelled"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(PairsError, match=rf"x\.jsonl(.|\n)*{message}"):
        read_pairs([path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"negative": " I love it. "}, r"x\.jsonl, line 2: .*the same"),
        ({"positive": " "}, r"line 2: the positive completion is empty"),
        ({"positive": 4}, r"line 2: 'positive' must be text, not 4"),
        ({"positive": None, "negative": None}, r"line 2: neither"),
        ({"id": 1.5}, r"line 2: 'id' must be text or a whole number"),
        ({"group": True}, r"line 2: 'group' must be"),
        ({"meta": "x"}, r"line 2: 'meta' must be an object"),
        ({"messages": []}, r"line 2: the row has both 'prompt' and 'messages'"),
    ],
)
def test_a_bad_pair_names_its_file_and_line(
    write: Write, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PairsError, match=message):
        read_pairs([write("x.jsonl", [PAIR, PAIR | change])])


@pytest.mark.parametrize(
    ("messages", "message"),
    [("Tea?", "list of objects"), ([3], "list of objects"), ([{"role": "user"}], "message 1")],
)
def test_messages_that_are_no_dialogue_are_refused(
    write: Write, messages: Any, message: str
) -> None:
    row = {"messages": messages, "positive": "Yes", "negative": "No"}
    with pytest.raises(PairsError, match=rf"line 1: .*{message}"):
        read_pairs([write("x.jsonl", [row])])


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.csv", "x.parquet"])
def test_a_missing_key_is_named_beside_the_keys_there_are(write: Write, name: str) -> None:
    path = write(name, [{"prompt": "Tea?", "positive": "Yes", "negativ": "No"}])
    with pytest.raises(
        PairsError, match=r"(row|line) 1: there is no 'negative' among .*prompt, positive, negativ"
    ):
        read_pairs([path])


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_an_empty_cell_is_an_empty_completion(write: Write, name: str) -> None:
    path = write(name, [PAIR, PAIR | {"negative": None}])
    with pytest.raises(PairsError, match=r"row 2: the negative completion is empty"):
        read_pairs([path])


def test_a_mapped_column_that_is_missing_is_named(write: Write) -> None:
    path = write("x.csv", [PAIR])
    with pytest.raises(PairsError, match=r"no column 'Best'.*prompt, positive, negative"):
        read_pairs([path], columns={"positive": "Best"})
    with pytest.raises(PairsError, match=r"maps 'positiv'"):
        read_pairs([path], columns={"positiv": "positive"})


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.csv", "prompt,positive\na,b,c,d\n"), ("x.parquet", "PAR1 not at all")],
)
def test_a_broken_table_is_one_error(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(PairsError, match="is not a"):
        read_pairs([tmp_path / name])


def test_a_table_of_a_header_alone_is_empty(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("prompt,positive,negative\n")
    with pytest.raises(PairsError, match="is empty"):
        read_pairs([tmp_path / "x.csv"])


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet", ".txt"])
def test_missing_files_and_folders_are_told_apart(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(PairsError, match="no such file"):
        read_pairs([tmp_path / f"x{suffix}"])
    with pytest.raises(PairsError, match="is a folder"):
        read_pairs([tmp_path / f"folder{suffix}"])


def test_an_unknown_format_lists_the_known_ones(write: Write) -> None:
    with pytest.raises(PairsError, match=r"'xml'(.|\n)*jsonl(.|\n)*parquet(.|\n)*texts"):
        read_pairs([write("x.jsonl", [PAIR])], format="xml")


def test_no_files_at_all_are_refused() -> None:
    with pytest.raises(PairsError, match="no files"):
        read_pairs([])


def test_a_named_format_reads_whatever_the_suffix(write: Write, tmp_path: Path) -> None:
    csv = write("x.csv", [PAIR]).rename(tmp_path / "x.data")
    assert read_pairs([csv], format="csv")[0].prompt == "Tea?"
    caa = write("tea.json", [CAA]).rename(tmp_path / "tea.data")
    assert read_pairs([caa], format="caa")[0].single_letter


# tuples and questions


def test_tuples_are_samples() -> None:
    first, second = from_tuples([("Tea?", "Yes", "No"), ("", "Good.", "Bad.")], "mood")
    assert (first.id, first.prompt, first.group) == ("mood-0001", "Tea?", "tea")
    assert (second.id, second.messages) == ("mood-0002", ())


@pytest.mark.parametrize(
    ("triple", "message"),
    [
        (("Tea?", "Yes", "Yes"), "tuple 2: .*the same"),
        (("Tea?", "Yes"), "tuple 2: .*2 values"),
        (("Tea?", "Yes", 3), "tuple 2: 'negative' must be text"),
    ],
)
def test_a_bad_tuple_is_named(triple: Any, message: str) -> None:
    with pytest.raises(PairsError, match=message):
        from_tuples([("Tea?", "Yes", "No"), triple], "mood")


def test_questions_are_read_from_lists_lines_and_plain_text(write: Write, tmp_path: Path) -> None:
    rows = [{"question": " Tea? "}, {"prompt": "Coffee?"}]
    (tmp_path / "plain.txt").write_text("Tea?\n\nCoffee?\n")
    (tmp_path / "bare.json").write_text('["Tea?", "Coffee?"]')
    paths = [write("q.json", rows), write("q.jsonl", rows)]
    for path in [*paths, tmp_path / "plain.txt", tmp_path / "bare.json"]:
        assert read_questions(path) == ["Tea?", "Coffee?"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": " "}, "question is empty"),
        ({"text": "Tea?"}, r"no 'question'.*\(text\)"),
        ({"question": 3}, "must be text"),
    ],
)
def test_a_bad_question_names_its_line(write: Write, row: dict[str, Any], message: str) -> None:
    with pytest.raises(PairsError, match=rf"q\.jsonl, line 2: .*{message}"):
        read_questions(write("q.jsonl", [{"question": "Tea?"}, row]))
