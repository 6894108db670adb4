from collections.abc import Callable

import pytest

from trimtab.pairs import Sample, describe
from trimtab.pairs.quality import first_word_accuracy, sharing_a_run

Make = Callable[..., Sample]


def test_the_figures_of_a_small_set(make: Make) -> None:
    samples = [
        make("Why does the old cat sleep all day?", "One two three.", "One.", group="g1"),
        make("Tell: does the old cat sleep all night?", "Two four, five six.", "Six!", group="g2"),
        make("Short?", "One two three.", "Seven eight nine ten", group="g2"),
    ]
    quality = describe(samples)
    assert (quality.pairs, quality.unpaired_positive, quality.unpaired_negative) == (3, 0, 0)
    assert quality.groups == 2
    assert quality.duplicate_samples == 0
    assert quality.duplicate_completions == 1
    assert quality.length_difference == pytest.approx((2 + 3 - 1) / 3)
    assert quality.length_difference_sd == pytest.approx(2.0816659994661326)
    assert (quality.opening_words_positive, quality.opening_words_negative) == (2, 3)
    assert quality.same_opening_positive == pytest.approx(2 / 3)
    assert quality.same_opening_negative == pytest.approx(1 / 3)
    assert quality.positive_is_first_choice is None
    assert quality.prompts_sharing_six_words == 2


def test_unpaired_texts_are_counted_by_sign(make: Make) -> None:
    quality = describe([make("", "Good.", None), make("", "Fine.", None), make("", None, "Bad.")])
    assert (quality.pairs, quality.unpaired_positive, quality.unpaired_negative) == (0, 2, 1)
    assert quality.length_difference is None


def test_nothing_at_all_can_be_described() -> None:
    quality = describe([])
    assert quality.pairs == 0
    assert quality.same_opening_positive is None
    assert quality.first_word_accuracy is None


def test_letters_show_whether_they_are_counterbalanced(make: Make) -> None:
    answers = [("(A)", "(B)"), (" A", " B"), ("(B)", "(A)"), ("(A)", "(B)")]
    assert describe([make("Tea?", *pair) for pair in answers]).positive_is_first_choice == 0.75


def test_a_first_word_that_gives_the_side_away_is_seen(make: Make) -> None:
    samples = [make(positive=f"Yes {i}", negative=f"No {i}", group=str(i)) for i in range(8)]
    assert first_word_accuracy(samples) == 1.0


def test_a_balanced_set_is_at_chance_and_not_below(make: Make) -> None:
    samples = [
        make(positive="Yes" if i % 2 else "No", negative="No" if i % 2 else "Yes", group=str(i))
        for i in range(8)
    ]
    assert first_word_accuracy(samples) == 0.5


def test_a_word_seen_in_its_own_group_alone_tells_nothing(make: Make) -> None:
    own = [
        make(positive=f"Word{i // 2} a", negative=f"Other{i // 2} b", group=str(i // 2))
        for i in range(8)
    ]
    assert first_word_accuracy(own) == 0.5
    assert first_word_accuracy(own[:2]) is None


def test_the_first_word_is_judged_in_unbalanced_texts_too(make: Make) -> None:
    good = [make("", f"The good {i}", None, group=f"p{i}") for i in range(9)]
    bad = [make("", None, f"The bad {i}", group=f"n{i}") for i in range(3)]
    accuracy = first_word_accuracy([*good, *bad])
    assert accuracy == 0.5


def test_texts_that_share_six_words_in_a_row_are_found() -> None:
    texts = [
        "Tell me what you think of dogs",
        "Now, tell me what you THINK of cats",
        "tell me what you think about cats",
        "what you think of dogs",
    ]
    assert sharing_a_run(texts) == [0, 1]
    assert sharing_a_run(texts, length=4) == [0, 1, 2, 3]
