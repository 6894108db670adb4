"""Controls of the right kind and size."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.pairs import Message, Sample
from trimtab.selector.parts import Choice, Parts, compose, everything
from trimtab.selector.prompting import EXAMPLES, examples_to_show, with_examples
from trimtab.selector.proof.control_vectors import (
    control_vectors,
    lexical_vector,
    random_dictionary,
)

DRAWS = 4
RANDOM = (
    "random_samples", "same_features", "random_features", "random_dictionary", "random_direction",
)  # fmt: skip
POINT = HookPoint(1, "hook_resid_post")
CHOICE = Choice((2, 5, 11), (3, 30, 12, 7))


def ask(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def pair(number: int, positive: str | None, negative: str | None, prompt: str = "Well?") -> Sample:
    return Sample(str(number), "tone", ask(prompt), positive, negative, str(number))


def in_span(rows: Tensor, vector: Tensor) -> bool:
    """Whether `vector` is a sum of `rows`."""
    found = torch.linalg.lstsq(rows.T.double(), vector[:, None].double()).solution
    return torch.allclose(rows.T.double() @ found, vector[:, None].double(), atol=1e-4)


def controls_of(parts: Parts, choice: Choice, *, seed: int) -> dict[str, list[Tensor]]:
    gradient = torch.ones(parts.residual.shape[1])
    return control_vectors(parts, parts, choice, gradient, draws=DRAWS, seed=seed)


def test_every_control_that_needs_no_model_is_there(parts: Parts, dense_parts: Parts) -> None:
    found = controls_of(parts, CHOICE, seed=0)
    assert {name: len(draws) for name, draws in found.items()} == {
        "dense_mean_difference": 1,
        "full_sae": 1,
        "random_samples": DRAWS,
        "same_features": DRAWS,
        "random_features": DRAWS,
        "random_dictionary": DRAWS,
        "random_direction": DRAWS,
    }
    dense = controls_of(dense_parts, Choice((1, 2)), seed=0)
    assert set(dense) == {"dense_mean_difference", "random_samples", "random_direction"}
    for draws in (*found.values(), *dense.values()):
        assert all(vector.shape == (12,) and vector.isfinite().all() for vector in draws)


def test_the_full_vectors_are_made_of_everything(parts: Parts) -> None:
    found = controls_of(parts, CHOICE, seed=0)
    torch.testing.assert_close(found["dense_mean_difference"][0], parts.residual.mean(0))
    torch.testing.assert_close(found["full_sae"][0], compose(parts, everything(parts)))


def test_random_samples_are_as_many_as_were_chosen() -> None:
    parts = Parts(tuple(map(str, range(50))), torch.eye(50))
    found = controls_of(parts, Choice((2, 5, 11)), seed=0)["random_samples"]
    for vector in found:
        assert sorted(vector[vector != 0].tolist()) == pytest.approx([1 / 3] * 3)
    assert len({tuple(vector.tolist()) for vector in found}) == DRAWS


def test_random_features_are_as_many_as_were_chosen_and_fire_on_the_chosen_samples() -> None:
    features = torch.zeros(10, 60)
    features[:, :40] = 1.0  # the rest never fires
    parts = Parts(tuple(map(str, range(10))), torch.randn(10, 60), features, torch.eye(60))
    found = controls_of(parts, Choice((1, 4), (0, 1, 2, 3, 4)), seed=0)["random_features"]
    for vector in found:
        assert vector.nonzero().flatten().tolist() != [0, 1, 2, 3, 4]
        assert (vector != 0).sum() == 5
        assert (vector[40:] == 0).all()
    assert len({tuple(vector.tolist()) for vector in found}) == DRAWS


def test_the_same_features_are_made_of_as_many_random_samples() -> None:
    features = torch.diag(torch.arange(1.0, 11.0))[:, :, None].expand(10, 10, 6).reshape(10, 60)
    parts = Parts(tuple(map(str, range(10))), torch.randn(10, 60), features, torch.eye(60))
    chosen = tuple(range(0, 60, 6))  # each of them fires on a sample of its own
    for vector in controls_of(parts, Choice((1, 4), chosen), seed=0)["same_features"]:
        own = vector.nonzero().flatten()
        assert len(own) == 2
        torch.testing.assert_close(vector[own], (own // 6 + 1) / 2.0)


def test_a_random_dictionary_sees_the_same_samples_along_unit_directions(parts: Parts) -> None:
    found = random_dictionary(parts, torch.Generator().manual_seed(0))
    assert found.decoder is not None
    assert parts.decoder is not None
    assert found.decoder.shape == parts.decoder.shape
    torch.testing.assert_close(found.decoder.norm(dim=1), torch.ones(len(found.decoder)))
    torch.testing.assert_close(found.features, parts.residual @ found.decoder.T)
    assert torch.equal(found.residual, parts.residual)


def test_a_random_dictionary_gives_as_many_directions_along_the_gradient(parts: Parts) -> None:
    gradient = torch.randn(12, generator=torch.Generator().manual_seed(9))
    found = control_vectors(
        parts, parts, Choice(tuple(range(30)), (3, 30), (1.0, 2.0)), gradient, draws=DRAWS, seed=0
    )
    fits = [
        float(torch.cosine_similarity(vector, gradient, dim=0))
        for vector in found["random_dictionary"]
    ]
    drawn = torch.cosine_similarity(
        torch.randn(100, 12, generator=torch.Generator().manual_seed(1)), gradient[None]
    )
    assert sum(fits) / len(fits) > 0.4 > float(drawn.abs().mean())
    assert max(fits) < 0.999  # two directions do not reach everything


def test_draws_follow_the_seed(parts: Parts) -> None:
    one, same, other = (controls_of(parts, CHOICE, seed=seed) for seed in (1, 1, 2))
    for name in RANDOM:
        for a, b, c in zip(one[name], same[name], other[name], strict=True):
            assert torch.equal(a, b)
            assert not torch.equal(a, c)


def first_words(model: LanguageModel, samples: Sequence[Sample], side: str) -> Tensor:
    rows = []
    for sample in samples:
        text = dict(sample.sides)[side]  # type: ignore[index]
        row = render(model, sample.messages, text.split()[0])
        seen = residuals(model, torch.tensor([row.ids]), None, [POINT])[POINT]
        rows.append(seen[0, row.n_prompt :].mean(0))
    return torch.stack(rows).mean(0)


def test_the_lexical_vector_is_the_difference_of_the_first_words_alone(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab.model.pooling.ROWS_PER_BATCH", 3)
    samples = [
        pair(0, "Yes, of course", "No, I cannot", "Would you agree?"),
        pair(1, "I would rather say", "I think that not"),  # the same word: nothing lexical
        pair(2, "Agree entirely", "Disagree", "What about the lazy dog?"),
    ]
    found = lexical_vector(tiny_model, samples, POINT, chat=True, system=None)
    differing = [samples[0], samples[2]]
    expected = first_words(tiny_model, differing, "positive") - first_words(
        tiny_model, differing, "negative"
    )
    assert found is not None
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_where_first_words_agree_there_is_no_lexical_vector(tiny_model: LanguageModel) -> None:
    agreeing = [pair(i, f"I do {i}", f"I do not {i}") for i in range(3)]
    assert lexical_vector(tiny_model, agreeing, POINT, chat=True, system=None) is None
    texts = [pair(0, "I do", None), pair(1, None, "I do not")]
    assert lexical_vector(tiny_model, texts, POINT, chat=True, system=None) is None
    one_side = [pair(0, "I do", None), pair(1, "You do", None)]
    assert lexical_vector(tiny_model, one_side, POINT, chat=True, system=None) is None


def test_unpaired_texts_have_a_lexical_vector_where_their_first_words_differ(
    tiny_model: LanguageModel,
) -> None:
    texts = [pair(0, "Yes, I do", None), pair(1, None, "No"), pair(2, None, "Never mind")]
    found = lexical_vector(tiny_model, texts, POINT, chat=True, system=None)
    assert found is not None
    expected = first_words(tiny_model, texts[:1], "positive") - first_words(
        tiny_model, texts[1:], "negative"
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_shortest_positives_are_shown_and_only_those_that_can_be() -> None:
    system: tuple[Message, ...] = ({"role": "system", "content": "x"}, *ask("Hm?"))
    samples = [
        pair(0, "a very long positive answer " * 5, "no"),
        pair(1, "yes", "no"),
        pair(2, None, "no"),
        Sample("3", "tone", system, "y", "n", "3"),
        Sample("4", "tone", (), "y", "n", "4"),
        pair(5, "yes indeed", "no"),
        pair(6, "yes, I do think so", "no"),
    ]
    shown = examples_to_show(samples)
    assert [s.id for s in shown] == ["1", "5", "6"]
    assert len(shown) == EXAMPLES
    assert examples_to_show(samples[2:5]) == []


def test_examples_stand_answered_before_the_question() -> None:
    examples = [pair(0, "yes", "no", "One?"), pair(1, "indeed", "no", "Two?")]
    found = with_examples(ask("Three?"), examples)
    assert [(m["role"], m["content"]) for m in found] == [
        ("user", "One?"),
        ("assistant", "yes"),
        ("user", "Two?"),
        ("assistant", "indeed"),
        ("user", "Three?"),
    ]


def test_a_system_message_stays_first_and_a_raw_text_stays_raw() -> None:
    examples = [pair(0, "yes", "no", "One?")]
    found = with_examples(({"role": "system", "content": "Be brief."}, *ask("Two?")), examples)
    assert [m["role"] for m in found] == ["system", "user", "assistant", "user"]
    assert with_examples((), examples) == ()


def test_random_features_are_matched_to_the_gradient_where_the_chosen_ones_are() -> None:
    features = torch.ones(10, 60)
    parts = Parts(tuple(map(str, range(10))), torch.randn(10, 60), features, torch.eye(60))
    gradient = torch.rand(60, generator=torch.Generator().manual_seed(0)) + 0.1
    choice = Choice((1, 4), (0, 1, 2), (1.0, 2.0, 3.0))
    found = control_vectors(parts, parts, choice, gradient, draws=DRAWS, seed=0)
    for vector in found["random_features"]:
        drawn = vector.nonzero().flatten()
        assert len(drawn) == 3
        matched = torch.cosine_similarity(vector[drawn], gradient[drawn], dim=0)
        assert float(matched) == pytest.approx(1.0, abs=1e-4)
