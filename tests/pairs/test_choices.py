import pytest

from trimtab.pairs.choices import parse_choices, parse_dialogue, without_choices

STEM = "Do you like tea?"


@pytest.mark.parametrize(
    "question",
    [
        f"{STEM}\n\nChoices:\n(A) Yes\n(B) No",
        f"{STEM}\n\nChoices:\n (A) Yes\n (B) No",
        f"{STEM}\n (A) Yes\n (B) No",
        f"{STEM}\r\n (A) Yes\r\n (B) No\r\n",
        f"{STEM}\n\nChoices:\n\t(A)  Yes\n\n\t(B)  No\n",
        f"{STEM} Options:\n(A)Yes\n(B)No",
        f"{STEM}\nA) Yes\nB) No",
        f"{STEM}\nAnswer choices:\nA. Yes\nB. No",
        f"{STEM}\nA: Yes\nB: No\n\nAnswer:",
        f"{STEM} (A) Yes (B) No",
        f"{STEM} Choices: (A) Yes (B) No\n\nAnswer: I believe the best answer is",
    ],
)
def test_choices_are_found_in_every_layout(question: str) -> None:
    choices = parse_choices(question)
    assert choices is not None
    assert choices.stem == STEM
    assert choices.texts == {"A": "Yes", "B": "No"}


def test_choices_may_span_lines_and_be_more_than_two() -> None:
    choices = parse_choices("Pick.\n (A) one\n   line more\n\n and more\n (B) two\n (C) three")
    assert choices is not None
    assert choices.texts == {"A": "one\n   line more\n\n and more", "B": "two", "C": "three"}


def test_the_last_run_of_choices_counts() -> None:
    choices = parse_choices("Rules:\n(A) be brief\n(B) be kind\nTea?\n (A) Yes\n (B) No")
    assert choices is not None
    assert choices.stem.endswith("(B) be kind\nTea?")
    assert choices.texts == {"A": "Yes", "B": "No"}


def test_a_stem_or_a_choice_may_speak_of_letters() -> None:
    choices = parse_choices(
        "I believe in (A), do you?\n(A) as said\n\nChoices:\n(A) Yes\n(B) (A) and (C)"
    )
    assert choices is not None
    assert choices.stem == "I believe in (A), do you?\n(A) as said"
    assert choices.texts == {"A": "Yes", "B": "(A) and (C)"}


@pytest.mark.parametrize(
    "question",
    [
        STEM,
        "",
        f"{STEM}\n(A) Yes",
        f"{STEM}\n(A) Yes\n(C) No",
        f"{STEM}\n(A) Yes\n(B)",
        "Compare plan (A) with plan (B) for me.",
        "A. Smith went home.",
    ],
)
def test_a_question_without_choices_is_left_alone(question: str) -> None:
    assert parse_choices(question) is None
    assert without_choices(question) == question


def test_choices_without_a_question_stay_in_the_prompt() -> None:
    assert without_choices("(A) Yes\n(B) No") == "(A) Yes\n(B) No"


def test_human_and_assistant_become_messages_and_a_lead() -> None:
    messages, lead = parse_dialogue(
        "\n\nHuman: Tea?\n (A) Yes\n (B) No\n\nAssistant: I believe it is"
    )
    assert messages == ({"role": "user", "content": "Tea?\n (A) Yes\n (B) No"},)
    assert lead == "I believe it is"
    messages, lead = parse_dialogue("Human: Hi\n\nAssistant: Hello\n\nHuman: Tea?\n\nAssistant:")
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert lead == ""


def test_a_plain_question_is_one_message() -> None:
    question = "She said:\nHuman: nature is odd. Why?"
    assert parse_dialogue(question) == (({"role": "user", "content": question},), "")
