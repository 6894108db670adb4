"""Paired tests keep their level, and corrections their order."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.feature_activity import activity
from experiments.paired import (
    attainable,
    compared,
    corrected,
    holm,
    mcnemar,
    paired_t,
    wrongly_changed,
)
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE

bits = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)


@given(bits)
def test_mcnemar_looks_at_changes_alone_and_at_either_way(pairs: list[tuple[bool, bool]]) -> None:
    before, after = np.array(pairs, dtype=float).T
    p = mcnemar(before, after)
    assert 0 < p <= 1
    assert p == pytest.approx(mcnemar(after, before))
    same = before == after
    if same.any() and not same.all():
        assert p == mcnemar(before[~same], after[~same])


def test_mcnemar_is_the_binomial_of_the_discordant() -> None:
    before, after = np.array([1.0] * 6 + [0] + [1] * 9), np.array([0.0] * 6 + [1] + [1] * 9)
    assert mcnemar(before, after) == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar(before, before) == 1.0


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_no_gain_and_no_loss_has_a_smaller_p_than_is_attainable(right: list[bool]) -> None:
    before = np.array(right, dtype=float)
    gain, loss = attainable(before)
    assert mcnemar(before, np.ones(len(before))) == pytest.approx(gain)
    assert mcnemar(before, np.zeros(len(before))) == pytest.approx(loss)


def test_random_draws_have_an_interval_and_are_in_no_family_of_tests() -> None:
    before = np.zeros(10)
    one = compared(before, np.ones(10), np.zeros((10, 3)), binary=False)
    assert one["p"] < 0.01
    assert one["beyond_random"].value == 1.0
    random = compared(before, np.ones((10, 3)), binary=False)
    assert "p" not in random
    rows = corrected([{"measure": "m"} | row for row in (one, random, one)])
    assert rows[0]["p_holm"] == pytest.approx(2 * one["p"])
    assert [row.get("tests") for row in rows] == [2, None, 2]


def test_draws_that_differ_widen_what_is_beyond_random() -> None:
    rng = np.random.default_rng(0)
    before, after = np.zeros(40), rng.normal(1, 0.1, 40)
    control = rng.normal(0, 0.1, (40, 3))
    alike = compared(before, after, control, binary=False)["beyond_random"]
    unlike = compared(before, after, control + np.array([-1, 0, 1]), binary=False)["beyond_random"]
    assert unlike.high - unlike.low > 3 * (alike.high - alike.low)


@given(st.integers(2, 12), st.floats(0.1, 9))
def test_what_differs_by_the_same_everywhere_is_tested_by_its_sign(n: int, by: float) -> None:
    assert paired_t(np.full(n, by)) == pytest.approx(2 / 2**n)
    assert paired_t(np.zeros(n)) == 1.0


def test_eight_questions_cannot_be_certain() -> None:
    rng = np.random.default_rng(0)
    found = [paired_t(rng.normal(0, 1, 8)) for _ in range(2000)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.02)


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_keeps_the_order_and_makes_nothing_smaller(p: list[float]) -> None:
    found = holm(p)
    assert all(one <= other <= 1 for one, other in zip(p, found, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all() if p else found == []


def test_holm_is_as_in_the_books() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_of_the_changed_answers_those_that_were_right_are_counted() -> None:
    before, after = np.array([1.0, 1, 0, 0, 0]), np.array([0.0, 1, 1, 0, 0])
    found = wrongly_changed(before, after, ["a", "a", "b", "b", "b"], ["b", "a", "a", "b", "c"])
    assert found.value == pytest.approx(1 / 3)
    assert wrongly_changed(before, before, ["a"] * 5, ["a"] * 5).value is None


def test_activity_is_that_of_plain_passes_over_the_completion(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    asked = [{"role": "user", "content": "What is the answer?"}]
    texts = [render(tiny_model, asked, text) for text in ("The fox.", "No, I cannot help.", "")]
    found = activity(tiny_model, tiny_sae, texts)
    every = []
    for row, text in enumerate(texts[:2]):
        ids = torch.tensor([text.ids])
        x = residuals(tiny_model, ids, None, [tiny_sae.hook_point])[tiny_sae.hook_point][0]
        each = tiny_sae.encode(x[text.n_prompt :])
        torch.testing.assert_close(found.means[row], each.mean(0), atol=1e-4, rtol=1e-4)
        every.append(each)
    tokens = torch.cat(every)
    np.testing.assert_allclose(found.rates, (tokens > 0).double().mean(0).numpy())
    torch.testing.assert_close(found.strongest, tokens.amax(0).clamp_min(0))
    assert found.means[2].abs().sum() == 0, "there is nothing to fire on"
