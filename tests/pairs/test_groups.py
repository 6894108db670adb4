from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from trimtab.pairs import Sample, assign_groups, balanced_groups, duplicates

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


SIDED = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["both", "yes", "no"])))


@given(SIDED)
def test_groups_of_one_side_are_joined_to_the_others_and_none_is_torn_apart(
    drawn: list[tuple[str, str]],
) -> None:
    samples = [
        Sample(
            id=str(i),
            behavior="b",
            messages=(),
            positive=None if side == "no" else "Yes.",
            negative=None if side == "yes" else "No.",
            group=group,
        )
        for i, (group, side) in enumerate(drawn)
    ]
    balanced = balanced_groups(samples)
    joined = dict(zip((s.group for s in samples), balanced, strict=True))
    assert balanced == [joined[s.group] for s in samples]
    held: dict[str, set[str]] = {}
    for sample, group in zip(samples, balanced, strict=True):
        held.setdefault(group, set()).update(side for side, _ in sample.sides)
    assert len({frozenset(sides) for sides in held.values() if len(sides) == 1}) <= 1
    alone = [group for group, sides in held.items() if len(sides) == 1]
    assert all(joined[group] == group for group in alone)


def test_pairs_keep_their_groups(make: Make) -> None:
    assert balanced_groups([make(group="a"), make(group="b")]) == ["a", "b"]
