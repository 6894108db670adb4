from collections.abc import Callable

from trimtab.pairs import Sample, assign_groups, duplicates

Make = Callable[..., Sample]


def groups(*samples: Sample) -> list[str]:
    return [sample.group for sample in assign_groups(samples)]


def test_prompts_that_differ_in_case_and_punctuation_share_a_group(make: Make) -> None:
    first, second, third = groups(make("Why so?"), make("why,  SO"), make("Why not?"))
    assert first == second != third


def test_choices_in_a_prompt_do_not_count(make: Make) -> None:
    spelled = make("Tea?")
    lettered = make("Tea?\n\nChoices:\n(A) Yes\n(B) No", "(A)", "(B)")
    swapped = make("Tea?\n (A) Never\n (B) Always", "(B)", "(A)")
    assert len(set(groups(spelled, lettered, swapped))) == 1


def test_a_given_group_stays_and_takes_in_the_same_prompt(make: Make) -> None:
    given = make("Why so?", group="causes")
    assert groups(make("why so"), given, make("Tea?")) == ["causes", "causes", "tea"]


def test_raw_texts_are_grouped_by_what_they_say(make: Make) -> None:
    first, second, third = groups(
        make("", "Good film.", None), make("", None, "good film"), make("", None, "Bad film.")
    )
    assert first == second != third


def test_duplicates_are_reported_and_not_dropped(make: Make) -> None:
    samples = [
        make(id="a"),
        make(id="b"),
        make("Another?", "I have none!", "Sewing.", id="c"),
        make("Third?", "(A)", "(B)", id="d"),
        make("Fourth?", "(A)", "(B)", id="e"),
        make("Fifth?", "alone", "unlike", id="f"),
    ]
    report = duplicates(samples)
    assert report.samples == [("a", "b")]
    assert report.completions == [("a", "b", "c"), ("a", "b")]
    assert len(assign_groups(samples)) == 6
