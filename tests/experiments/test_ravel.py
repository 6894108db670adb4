"""Interchanges are those of plain passes, and nothing is said of what the model does not know."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from experiments.laboratory import Laboratory
from experiments.ravel import ways
from experiments.ravel.changes import nothing, of_features, of_subspace, whole
from experiments.ravel.domain import SPLITS, read_domain
from experiments.ravel.examples import Example, examples_of
from experiments.ravel.interchange import Interchanges, draw_pairs
from experiments.ravel.methods import METHODS
from experiments.ravel.prompts import Prompts
from experiments.ravel.scores import Answers, Measured, scores
from experiments.ravel.study import AVERAGED, Sizes, study
from experiments.ravel.table import draw
from trimtab.errors import PairsError, SelectionError
from trimtab.model.hook_points import HookPoint, Site
from trimtab.model.hooks import edit
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE

SEEDS = st.integers(0, 2**32 - 1)
ANIMALS = ("fox", "dog", "lazy dog", "brown fox", "quick fox", "Sorry", "answer", "question")
VALUES = {"Colour": ("brown", "think", "would"), "Answer": ("Yes", "No, of course", "/Agree/")}
TEMPLATES = {
    "Colour": ("The colour of the %s is", "the fox is lazy; the %s is"),
    "Answer": ('What of %s? "', "[The %s jumps] What is the answer? ("),
}
SMALL = Sizes(
    domains=("animal",),
    entities=8,
    templates=2,
    pairs=(10, 6, 12),
    enough=4,
    features=(1, 4),
    dimensions=(1, 3),
    subspace=2,
    steps=3,
    batch=4,
)


def write(folder: Path, **changed: Any) -> Path:
    """Write a domain's four files, each split with entities and templates of its own."""
    entities = [f"{animal} {split}" for split in SPLITS for animal in ANIMALS]
    templates = {a: [f"{split}: {t}" for split in SPLITS for t in TEMPLATES[a]] for a in TEMPLATES}
    files = {
        "entity_attributes": {
            entity: {a: VALUES[a][(i + i // 3 * (a == "Answer")) % 3] for a in VALUES}
            for i, entity in enumerate(entities)
        },
        "attribute_to_prompts": templates,
        "entity_to_split": {entity: entity.split()[-1] for entity in entities},
        "prompt_to_split": {t: t.split(":")[0] for some in templates.values() for t in some},
    }
    (folder / "ravel").mkdir(exist_ok=True)
    for name, content in (files | changed).items():
        (folder / f"ravel/ravel_animal_{name}.json").write_text(json.dumps(content))
    return folder


def made(model: LanguageModel, template: str, entities: list[str] | None = None) -> list[Example]:
    """A template's examples, with the values in turn."""
    names = entities or list(ANIMALS)
    values = {name: {"Colour": VALUES["Colour"][i % 3]} for i, name in enumerate(names)}
    return examples_of(model, SimpleNamespace(values=values), "Colour", template, names)  # type: ignore[arg-type]


def test_a_domain_is_what_its_files_say(tmp_path: Path) -> None:
    attributes = {"fox train": {"Colour": "red, brown", "Legs": 4, "Answer": ""}, "lost": {}}
    folder = write(tmp_path, entity_attributes=attributes)
    domain = read_domain("animal", lambda name: folder / name)
    assert domain.values == {"fox train": {"Colour": "red", "Legs": "4"}, "lost": {}}
    assert domain.entities == {"train": ["fox train"], "val": [], "test": []}
    assert domain.templates["Colour"]["val"] == [f"val: {t}" for t in TEMPLATES["Colour"]]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"attribute_to_prompts": {"Colour": ["no place"]}}, "prompts.json: 'no place' has no %s"),
        ({"attribute_to_prompts": {"Colour": [3]}}, "prompts.json: 3 has no %s"),
        ({"entity_attributes": ["fox"]}, "attributes.json is no file of RAVEL"),
        ({"entity_to_split": {"fox": 3}}, "to_split.json is no file of RAVEL"),
    ],
)
def test_files_of_another_form_are_named(
    changed: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, **changed)
    with pytest.raises(PairsError, match=complaint):
        read_domain("animal", lambda name: folder / name)
    (folder / "ravel/ravel_animal_entity_attributes.json").write_text("{")
    with pytest.raises(PairsError, match="is no JSON"):
        read_domain("animal", lambda name: folder / name)


def test_an_entitys_last_token_and_the_values_first_are_found(tiny_model: LanguageModel) -> None:
    for template, gap in (("The %s is", " "), ('"%s": "', ""), ("%s, (%s) the ", "")):
        for example in made(tiny_model, template):
            read = tiny_model.tokenizer.decode
            head = template[: template.rindex("%s")].replace("%s", example.entity)
            assert read(example.ids[: example.place + 1]) == head + example.entity
            assert read(example.ids[: example.n_prompt]) == template.replace("%s", example.entity)
            assert (gap + example.value).startswith(read(example.answer))
            assert 1 <= len(example.answer) <= 3


def test_an_entity_that_ends_at_the_first_token_is_left_out(tiny_model: LanguageModel) -> None:
    assert {example.entity for example in made(tiny_model, "%s is", ["A", "fox"])} == {"fox"}


def plain(model: LanguageModel, point: HookPoint, example: Example, added: Tensor) -> Tensor:
    """Log-probabilities after every token, by a full pass."""

    def change(x: Tensor) -> Tensor:
        return x.index_put((torch.tensor(0), torch.tensor(example.place)), added, accumulate=True)

    with edit(model, point, change):
        logits = model.module(input_ids=torch.tensor([example.ids]), use_cache=False).logits
    return torch.as_tensor(logits[0].log_softmax(-1))


def agree(model: LanguageModel, point: HookPoint, template: str) -> None:
    """Compare what is run from the hook point on with plain passes, changed and unchanged."""
    examples = made(model, template)
    prompts = Prompts(model, point, examples)
    rows = torch.tensor([0, 2, 3, 6])
    read = torch.tensor([len(examples[row].answer) - 1 for row in rows.tolist()])
    shift = 3 * torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    for added in (shift, torch.zeros(4, 16)):
        with torch.no_grad():
            found = prompts.forward(rows, read, added)
            for i, row in enumerate(rows.tolist()):
                end = examples[row].n_prompt - 1 + int(read[i])
                expected = plain(model, point, examples[row], added[i])[end]
                torch.testing.assert_close(found[i], expected, rtol=1e-3, atol=1e-4)


def test_what_is_run_from_the_hook_point_on_is_what_plain_passes_say(
    family_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.ravel.prompts.TOKENS_PER_PASS", 20)
    agree(family_model, HookPoint(1, "hook_resid_post"), "The answer of the %s is")


@pytest.mark.parametrize("template", ["The answer of the %s is", "%s, the quick"])
@pytest.mark.parametrize(("layer", "site"), [(2, "hook_mlp_out"), (0, "hook_resid_pre")])
def test_every_site_agrees_with_plain_passes_whether_or_not_examples_begin_alike(
    tiny_model: LanguageModel, layer: int, site: Site, template: str
) -> None:
    agree(tiny_model, HookPoint(layer, site), template)


def test_gradients_reach_what_was_added(tiny_model: LanguageModel) -> None:
    point, (example, *_) = HookPoint(1, "hook_resid_post"), made(tiny_model, "The fox: %s is")
    added = torch.zeros(1, 16, requires_grad=True)
    prompts = Prompts(tiny_model, point, [example])
    nats = prompts.forward(torch.tensor([0]), torch.tensor([0]), added)[0, 7]
    alone = torch.zeros(16, requires_grad=True)
    expected = plain(tiny_model, point, example, alone)[example.n_prompt - 1, 7]
    gradients = [
        torch.autograd.grad(x, of)[0].flatten() for x, of in ((nats, added), (expected, alone))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_an_answer_is_what_greedy_decoding_begins_with(tiny_model: LanguageModel) -> None:
    examples = []
    for i, example in enumerate(made(tiny_model, "The answer of the %s is")):
        ids = list(example.ids[: example.n_prompt])
        for _ in range(3):
            logits = tiny_model.module(input_ids=torch.tensor([ids])).logits
            ids.append(int(logits[0, -1].argmax()))
        if i % 2:
            ids[-1 - i % 3] = 5
        examples.append(replace(example, ids=tuple(ids)))
    prompts = Prompts(tiny_model, HookPoint(1, "hook_resid_post"), examples)
    assert prompts.answered() == [i % 2 == 0 for i in range(len(examples))]


def test_sources_are_of_the_same_template_and_have_values_that_part(
    tiny_model: LanguageModel,
) -> None:
    examples = [*made(tiny_model, "The %s is"), *made(tiny_model, "What is the %s?")]
    pairs = draw_pairs(examples, 10, 0)
    assert len(pairs) == 10
    assert len({base for base, _ in pairs}) == 10
    assert [examples.index(base) for base, _ in pairs] == sorted(
        examples.index(base) for base, _ in pairs
    )
    assert all(b.template == s.template and b.value != s.value for b, s in pairs)
    begins = replace(examples[0], ids=examples[0].ids[:-1])
    assert draw_pairs([begins, examples[0]], 10, 0) == []  # one value goes on where one ends


def test_outcomes_are_of_the_tokens_where_the_values_part(tiny_model: LanguageModel) -> None:
    point = HookPoint(1, "hook_resid_post")
    examples = [*made(tiny_model, "The %s is"), *made(tiny_model, "What is the %s?")]
    pairs = draw_pairs(examples, 12, 1)
    interchanges = Interchanges(tiny_model, point, pairs)
    base, source = interchanges.residuals
    rows = torch.tensor([1, 4, 9, 11])
    with torch.no_grad():
        found = interchanges.outcomes(rows, (source - base)[rows])
        for i, row in enumerate(rows.tolist()):
            one, other = pairs[row]
            shared = next(k for k in range(3) if one.answer[k] != other.answer[k])
            nats = plain(tiny_model, point, one, (source - base)[row])[one.n_prompt - 1 + shared]
            expected = nats[[one.answer[shared], other.answer[shared]]]
            torch.testing.assert_close(
                torch.stack([found.base[i], found.source[i]]), expected, rtol=1e-3, atol=1e-4
            )
            assert bool(found.says_source[i]) == (nats.argmax() == other.answer[shared])


@given(SEEDS)
def test_all_features_give_what_they_decode_to_and_none_give_nothing(
    tiny_sae: SAE, seed: int
) -> None:
    base, source = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(seed))
    decoded = tiny_sae.decode(tiny_sae.encode(source)) - tiny_sae.decode(tiny_sae.encode(base))
    every = list(range(tiny_sae.d_sae))
    torch.testing.assert_close(of_features(tiny_sae)(base, source), decoded, rtol=1e-3, atol=1e-4)
    halves = [of_features(tiny_sae, some)(base, source) for some in (every[::2], every[1::2])]
    torch.testing.assert_close(halves[0] + halves[1], decoded, rtol=1e-3, atol=1e-4)
    assert torch.equal(of_features(tiny_sae, [])(base, source), nothing(base, source))


@given(SEEDS, st.integers(1, 16))
def test_a_subspace_gives_the_part_of_the_difference_that_lies_in_it(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    base, source = torch.randn(2, 5, 16, generator=generator)
    basis = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    given_part = of_subspace(basis[:k])(base, source)
    rest = of_subspace(basis[k:])(base, source)
    torch.testing.assert_close(given_part + rest, whole(base, source), rtol=1e-3, atol=1e-4)
    again = of_subspace(basis[:k])(base, base + given_part)
    torch.testing.assert_close(again, given_part, rtol=1e-3, atol=1e-4)


@pytest.fixture
def lesson(tiny_model: LanguageModel, tiny_sae: SAE) -> ways.Lesson:
    own, other = (
        Interchanges(tiny_model, tiny_sae.hook_point, draw_pairs(made(tiny_model, one), 8, 0))
        for one in ("The %s is", "What is the %s?")
    )
    return ways.Lesson(tiny_sae, own, [other], steps=20, batch=8, seed=0)


def test_pursuit_comes_nearer_to_the_probes_part_with_every_feature(lesson: ways.Lesson) -> None:
    basis = ways.probe(lesson, 2)
    base, source = lesson.own.residuals
    target = of_subspace(basis)(base, source)
    order = ways.by_pursuit(lesson, basis, 5)
    apart = [
        float((target - of_features(lesson.sae, order[:k])(base, source)).norm())
        for k in range(len(order) + 1)
    ]
    assert len(order) > 1
    assert apart == sorted(apart, reverse=True)


def test_attribution_tells_what_a_small_part_of_a_feature_does(lesson: ways.Lesson) -> None:
    alone = replace(lesson, others=[replace_residuals(lesson.others[0])])
    order = ways.by_attribution(alone)
    rows, (base, source) = torch.arange(len(lesson.own)), lesson.own.residuals
    share = 1e-2
    with torch.no_grad():
        odds = [
            lesson.own.outcomes(rows, share * of_features(lesson.sae, some)(base, source)).odds
            for some in ([], order[:1], order[-1:])
        ]
    first, last = ((one - odds[0]).mean() / share for one in odds[1:])
    assert first > last > -1e-2


def replace_residuals(pairs: Interchanges) -> Any:
    """Pairs whose sources are their bases: nothing of theirs can be moved."""
    base, _ = pairs.residuals
    same = Interchanges.__new__(Interchanges)
    same.__dict__ = pairs.__dict__ | {"residuals": (base, base)}
    return same


def test_subspaces_are_orthonormal_and_masks_open_what_differs(lesson: ways.Lesson) -> None:
    for basis in (ways.principal(lesson, 3), ways.probe(lesson, 9), ways.rotation(lesson, 5)):
        torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis)), rtol=0, atol=1e-5)
    assert len(ways.probe(lesson, 9)) == 2  # of three values
    assert len(ways.rotation(lesson, 5)) == 5
    differs = lesson.differences(lesson.own).any(0)
    assert all(differs[i] for i in ways.by_masks(lesson))


def test_training_makes_a_subspace_better_at_what_it_is_trained_on(lesson: ways.Lesson) -> None:
    def loss(basis: Tensor) -> float:
        nats = []
        for pairs in (lesson.own, *lesson.others):
            change = of_subspace(basis)(*pairs.residuals)
            found = pairs.outcomes(torch.arange(len(pairs)), change)
            nats.append((found.source if pairs is lesson.own else found.base).mean())
        return -float(sum(nats))

    with torch.no_grad():
        before = loss(ways.probe(lesson, 2))
    after = loss(ways.rotation(replace(lesson, steps=60), 2))
    assert after < before


def answers(right: float, n: int = 40, seed: int = 0) -> Answers:
    rng = np.random.default_rng(seed)
    return Answers(
        (np.arange(n) < right * n).astype(float),
        rng.standard_normal(n),
        [f"entity {i % 20}" for i in range(n)],
    )


def test_scores_average_attributes_and_reward_neither_breaking_nor_doing_nothing() -> None:
    one, other = Measured(answers(0.5), answers(1.0)), Measured(answers(1.0), answers(0.0))
    row = scores([one], 0)
    assert [row[name].value for name in ("cause", "isolation", "mean", "product")] == [
        0.5, 1.0, 0.75, 0.5,
    ]  # fmt: skip
    assert 0.8 < row["isolation"].low < 1.0  # though every draw says 1
    assert row["product"].low < 0.5 < row["product"].high
    still = scores([Measured(answers(0.0), answers(1.0))], 0)  # every draw says the same
    assert still["mean"].low == pytest.approx(still["isolation"].low / 2)
    assert (still["product"].low, still["product"].high) == (0.0, still["cause"].high)
    broken = scores([other], 0)
    assert (broken["mean"].value, broken["product"].value) == (0.5, 0.0)
    both = scores([one, other], 0)
    assert both["product"].value == pytest.approx(0.25)
    assert both["cause"].value == pytest.approx(0.75)


def test_few_entities_have_no_interval() -> None:
    few = answers(0.5, n=4)
    row = scores([Measured(few, few)], 0)
    assert row["cause"].value == 0.5
    assert row["cause"].low is None
    assert "5 entities" in row["cause"].reason


def test_the_study_measures_draws_and_measures_nothing_twice(
    laboratory: Callable[[str, Any], Laboratory],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def always(prompts: Prompts) -> list[bool]:
        return [True] * len(prompts.examples)

    monkeypatch.setattr(Prompts, "answered", always)  # the tiny model knows nothing
    here = replace(laboratory("ravel", SMALL), data=write(tmp_path))
    tables = study(here)
    assert {row["enough"] for row in tables["kept"]} == {"yes"}
    told = {(row["attribute"], row["method"]) for row in tables["scores"]}
    assert told == {(a, m) for a in (*VALUES, AVERAGED) for m in METHODS}
    by_method = {r["method"]: r for r in tables["scores"] if r["attribute"] == "Colour"}
    assert by_method["no interchange"]["graded"].value == 0
    assert by_method["random features"]["features"] == by_method["attribution"]["features"]
    here.write(tables)
    page = draw(here.out)
    assert all(f"| animal | {name} |" in page for name in (*VALUES, AVERAGED))
    assert (here.out / "scores.svg").exists()

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Prompts, "answered", never)
    monkeypatch.setattr(Prompts, "_forward", never)
    again = study(replace(laboratory("ravel", SMALL), data=write(tmp_path)))
    assert repr(again) == repr(tables)


def test_of_what_the_model_seldom_answers_nothing_is_said(
    laboratory: Callable[[str, Any], Laboratory], tmp_path: Path
) -> None:
    here = replace(laboratory("ravel", replace(SMALL, enough=99)), data=write(tmp_path))
    tables = study(here)
    assert {row["enough"] for row in tables["kept"]} == {"no"}
    here.write(tables)
    page = draw(here.out)
    assert "cannot tell of 0 test" in page


def test_after_two_hopeless_templates_no_more_are_asked(
    laboratory: Callable[[str, Any], Laboratory], tmp_path: Path
) -> None:
    templates = [f"test: the %s is {word}" for word in ("quick", "brown", "lazy", "so")]
    folder = write(
        tmp_path,
        attribute_to_prompts={"Colour": templates},
        prompt_to_split=dict.fromkeys(templates, "test"),
    )
    here = replace(laboratory("ravel", replace(SMALL, templates=4)), data=folder)
    (row,) = study(here)["kept"]
    assert row["asked"] == 2 * len(ANIMALS)


def test_a_second_attribute_is_needed_to_speak_of_isolation(
    laboratory: Callable[[str, Any], Laboratory],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of_colours(prompts: Prompts) -> list[bool]:
        return [example.value in VALUES["Colour"] for example in prompts.examples]

    monkeypatch.setattr(Prompts, "answered", of_colours)
    tables = study(replace(laboratory("ravel", SMALL), data=write(tmp_path)))
    reasons = {row["attribute"]: row["cause"].reason for row in tables["scores"]}
    assert "second attribute" in reasons["Colour"]
    assert "0 test" in reasons["Answer"]


def test_the_study_needs_the_folder_of_data(
    laboratory: Callable[[str, Any], Laboratory],
) -> None:
    with pytest.raises(SelectionError, match="--data"):
        study(replace(laboratory("ravel", SMALL), data=None))
