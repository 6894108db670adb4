"""Sequences teach one another their indices; concepts are told by what they share."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from experiments.benchmark_questions import user
from experiments.completions import Completions
from experiments.laboratory import Laboratory
from experiments.record import Row
from experiments.successors import concepts
from experiments.successors.answers import answers
from experiments.successors.concepts import FOLDER, read_domains
from experiments.successors.indices import Task, nearest
from experiments.successors.kinship import ASKED, FAMILY, TAXON, Kin
from experiments.successors.overlap import area, less_form, ranked
from experiments.successors.reading import read
from experiments.successors.sequences import PACKAGED, Ordered, chains, read_sequences
from experiments.successors.steering import steps
from experiments.successors.study import LISTS, SIZES, study
from experiments.successors.table import TABLES, draw
from experiments.successors.taught import Taught, shared, shuffled, teachers, text_of
from trimtab.errors import SelectionError
from trimtab.model.hooks import edit, record
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.steering.vector import SteeringVector

SMALL = replace(SIZES, features=4, shuffles=3, draws=2, permutations=9, listed=3)
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def write_lists(folder: Path, sequences: list[list[str]]) -> tuple[Path, Path]:
    """Lists of what follows and of what precedes, as function vectors have them."""
    pairs = [pair for items in sequences for pair in pairwise(items)]
    files = tuple(folder / Path(name).name for name in LISTS)
    for file, order in zip(files, (1, -1), strict=True):
        rows = [dict(zip(("input", "output"), pair[::order], strict=True)) for pair in pairs]
        file.write_text(json.dumps(rows))
    return files[0], files[1]


def test_pairs_of_both_lists_are_joined_to_sequences_that_are_recognised(tmp_path: Path) -> None:
    numbers = ["zero", "one", "two", "three", "four", "five"]
    letters = ["g", "h", "i", "j", "k"]
    days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "monday"]
    romans = ["i", "ii", "iii", "iv", "v"]
    planets = ["Mercury", "Venus", "Earth", "Mars", "Jupiter"]
    every = [numbers, letters, days, romans, planets, ["on", "off"]]
    found = read_sequences(*write_lists(tmp_path, every))
    assert found == [
        Ordered("number words", "numbers", tuple(numbers), 0),
        Ordered("letters", "letters", tuple(letters), 7),
        Ordered("days", "days", tuple(days[:-1]), 1, cyclic=True),
        Ordered("Roman numerals", "numbers", tuple(romans), 1),
        Ordered("Mercury", "Mercury", tuple(planets), 1),
    ]
    assert found[2].item(8) == "monday" and found[0].item(6) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not a JSON list"),
        ('[{"input": "a"}]', "is not a JSON list"),
        ('["a"]', "is not a JSON list"),
        ('[{"input": 1, "output": 2}]', "is not a JSON list"),
        ('[{"input": "a", "output": " "}]', "an input or output is empty"),
        ('[{"input": "a", "output": "b"}]', "hold no sequence of 5 items"),
    ],
)
def test_a_list_that_is_none_is_named(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "next_item.json"
    file.write_text(text)
    with pytest.raises(SelectionError, match=rf"next_item\.json.*{why}"):
        read_sequences(file, file)


@given(st.lists(st.text("abcdef", min_size=1, max_size=2), min_size=2, max_size=12, unique=True))
def test_the_pairs_of_a_sequence_make_it_again(items: list[str]) -> None:
    assert chains(list(pairwise(items))) == [tuple(items)]


def test_no_kind_teaches_itself_unless_that_is_said() -> None:
    for sequence in PACKAGED:
        others = [one for unit in teachers(sequence, 7) for one in unit]
        assert {one.kind for one in others} == {one.kind for one in PACKAGED} - {sequence.kind}
        own = [one for unit in teachers(sequence, 7, own_kind=True) for one in unit]
        assert all(one.kind == sequence.kind and one.name != sequence.name for one in own)
    assert all(len(one.items) >= 12 for unit in teachers(PACKAGED[0], 12) for one in unit)


def test_texts_have_the_items_before() -> None:
    months = next(one for one in PACKAGED if one.name == "months")
    assert text_of("say {item}", months, 1) == "say January"
    assert text_of("{earlier}, {item}", months, 3) == "January, February, March"
    assert text_of("{earlier}, {item}", months, 2) is None


def test_later_indices_are_asked_by_their_place_in_the_round() -> None:
    task = Task("mod 10", 10, later=True)
    assert next(i for i in range(30) if task.asks(i)) == 11
    assert [task.label(i) for i in (11, 20, 23)] == [1, 10, 3]
    assert [i for i in range(30) if Task("index", 7, later=False).asks(i)] == [1, 2, 3, 4, 5, 6, 7]


def test_an_index_that_is_shared_is_told_and_a_shuffled_one_is_not() -> None:
    rng = np.random.default_rng(0)
    code = 3 * rng.normal(size=(7, 6)).astype(np.float32)
    units = np.concatenate(
        [np.stack([code] * 3), rng.normal(size=(3, 7, 50)).astype(np.float32)], axis=2
    )
    units -= units.mean(1, keepdims=True)
    asked = np.concatenate([code, rng.normal(size=(7, 50)).astype(np.float32)], axis=1)[None]
    assert set(np.argsort(-shared(units))[:6]) == set(range(6))
    told = nearest(units, asked - asked.mean(1, keepdims=True), 6)
    assert told.tolist() == [list(range(7))]
    draws = [nearest(shuffled(units, rng), asked, 6) for _ in range(200)]
    assert abs(np.mean([draw == np.arange(7) for draw in draws]) - 1 / 7) < 0.08


@given(st.integers(1, 4), st.integers(2, 5), st.integers(0, 99))
def test_what_is_shared_is_the_sum_over_pairs_of_units(n: int, width: int, seed: int) -> None:
    units = np.random.default_rng(seed).normal(size=(n, 4, width)).astype(np.float32)
    pairs = [(units[a] * units[b]).sum(0) for a in range(n) for b in range(a)]
    expected = np.sum(pairs, axis=0) if pairs else (units[0] ** 2).sum(0)
    np.testing.assert_allclose(shared(units), expected, rtol=1e-3, atol=1e-4)


def test_steps_are_mean_differences_from_an_index() -> None:
    units = [np.array([[0.0], [1.0], [3.0]]), np.array([[0.0], [2.0], [2.0], [9.0]])]
    on, back = steps(units, 2)
    assert on.tolist() == [1.0] and back.tolist() == [-1.5]


def test_a_reading_is_of_the_last_token(tiny_model: LanguageModel, tiny_sae: SAE) -> None:
    texts = ["The quick brown fox", "Yes", "I would rather tell you why"]
    found = read(tiny_model, tiny_sae, texts)
    point = tiny_sae.hook_point
    for text, residual, features in zip(texts, found.residual, found.features, strict=True):
        ids = torch.tensor([tiny_model.tokenizer(text).input_ids])
        with torch.no_grad(), record(tiny_model, [point]) as seen:
            tiny_model.module(input_ids=ids)
        last = seen[point][0, -1]
        np.testing.assert_allclose(residual, last.numpy(), rtol=1e-4, atol=1e-5)
        decoded = tiny_sae.decode(tiny_sae.encode(last)) - tiny_sae.b_dec
        np.testing.assert_allclose(features @ found.directions, decoded, rtol=1e-3, atol=1e-4)


def test_a_vector_is_added_at_the_prompts_last_token_alone(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    prompt, said = "The quick brown", [" fox jumps over", " dog"]
    vector = 3 * np.random.default_rng(0).normal(size=16).astype(np.float32)
    found = answers(tiny_model, tiny_sae, prompt, said, [vector])
    point = tiny_sae.hook_point
    for text, base, steered in zip(said, *found, strict=True):
        row = render(tiny_model, user(prompt), text, chat=False)
        ids = torch.tensor([row.ids])
        for nats, added in ((base, 0.0), (steered, 1.0)):

            def shift(x: torch.Tensor, n: int = row.n_prompt, by: float = added) -> torch.Tensor:
                x = x.clone()
                x[:, n - 1] += by * torch.from_numpy(vector)
                return x

            with torch.no_grad(), edit(tiny_model, point, shift):
                logits = tiny_model.module(input_ids=ids).logits[0].log_softmax(-1)
            own = logits[:-1].gather(1, ids[0, 1:, None])[row.n_prompt - 1 :]
            np.testing.assert_allclose(nats, float(own.sum()), rtol=1e-4)
    every = SteeringVector(torch.from_numpy(vector), point)
    completions = Completions(tiny_model, [(user(prompt), said)], point, chat=False)
    assert abs(completions([every.edit(1.0)])[0, 0] - found[1, 0]) > 1e-3


@given(st.integers(0, 50))
def test_the_area_is_that_of_mann_and_whitney(seed: int) -> None:
    rng = np.random.default_rng(seed)
    overlap = rng.integers(0, 4, size=(9, 9)).astype(float)
    labels, strata = rng.choice(list("ab"), size=9), rng.choice(list("xy"), size=9)
    areas = area(ranked(overlap, strata), labels)
    for i in range(9):
        peers = [j for j in range(9) if j != i and strata[j] == strata[i]]
        own = [overlap[i, j] for j in peers if labels[j] == labels[i]]
        other = [overlap[i, j] for j in peers if labels[j] != labels[i]]
        if own and other:
            expected = mannwhitneyu(own, other).statistic / (len(own) * len(other))
            assert areas[i] == pytest.approx(expected)
        else:
            assert np.isnan(areas[i])


def test_nothing_is_left_of_an_overlap_that_is_the_words_form() -> None:
    rng = np.random.default_rng(0)
    forms = [rng.normal(size=(6, 6)) for _ in range(3)]
    left = less_form(1.0 + 2.0 * forms[0] - forms[2], forms)
    np.testing.assert_allclose(left, 0, atol=1e-10)


def test_relatives_are_of_the_family_the_taxon_and_neither(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    animals = next(domain for domain in read_domains() if domain.name == "animals")
    taxa, families = animals.classes[TAXON], animals.classes[FAMILY]
    for place, kin in enumerate(Kin(laboratory("successors", SMALL), animals).relatives):
        assert kin["sibling"] != place
        assert families[kin["sibling"]] == families[place]
        if "cousin" in kin:
            assert taxa[kin["cousin"]] == taxa[place]
            assert families[kin["cousin"]] != families[place]
        assert taxa[kin["stranger"]] != taxa[place]


def test_the_packaged_concepts_are_whole() -> None:
    for domain in read_domains():
        assert len(set(domain.concepts)) == len(domain.concepts)
        for classes in domain.classes.values():
            assert all(one and classes.count(one) > 1 for one in classes)
    assert set(ASKED) <= set(next(iter(read_domains())).classes)
    assert len(list(FOLDER.glob("*.tsv"))) == len(read_domains())


def test_the_study_measures_draws_and_measures_nothing_twice(
    laboratory: Callable[[str, Any], Laboratory],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lists = tmp_path / "lists"
    (lists / "function-vectors").mkdir(parents=True)
    write_lists(
        lists / "function-vectors",
        [["one", "two", "three", "four", "five", "six"], [*"abcdefgh"], [*DAYS, "mon"]],
    )
    for domain in read_domains():
        lines = (FOLDER / f"{domain.name}.tsv").read_text(encoding="utf-8").splitlines()
        (lists / f"{domain.name}.tsv").write_text("\n".join(lines[:9]), encoding="utf-8")
    monkeypatch.setattr(concepts, "FOLDER", lists)
    here = replace(laboratory("successors", SMALL), data=lists)
    tables = study(here)
    assert set(tables) == set(TABLES)
    here.write(tables)
    page = draw(here.out)
    assert all(name in page for name in ("shared features", "sibling", "vehicles"))
    assert {file.stem for file in here.out.glob("*.svg")} == {"index", "steering", "classes"}
    assert "mon … sun" in pl.read_parquet(here.out / "index.parquet")["sequence"].to_list()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    for module in ("taught.read", "overlap.read", "kinship.read", "answers.Completions"):
        monkeypatch.setattr(f"experiments.successors.{module}", never)
    again = study(replace(laboratory("successors", SMALL), data=lists))
    assert repr(again) == repr(tables)


def test_without_a_folder_of_data_the_packaged_sequences_are_tested_on(
    laboratory: Callable[[str, Any], Laboratory], monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[Ordered] = []

    def seen(taught: Taught) -> list[Row]:
        tested.extend(taught.tested)
        return []

    for name in ("index_rows", "common_rows", "steering_rows"):
        monkeypatch.setattr(f"experiments.successors.study.{name}", seen)
    for name in ("overlap_rows", "kinship_rows"):
        monkeypatch.setattr(f"experiments.successors.study.{name}", lambda *_: [])
    study(replace(laboratory("successors", SMALL), data=None))
    assert set(tested) == set(PACKAGED)
    with pytest.raises(SelectionError, match=r"has no function-vectors/next_item\.json"):
        study(laboratory("successors", SMALL))
