"""A vector explained on a tiny model: figures that can be checked, controls, pages, mistakes."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from trimtab.errors import SelectionError, VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Sample, split
from trimtab.selector import material
from trimtab.selector.explanation import run as running
from trimtab.selector.explanation.explain import TEXTS, Against, Explanation, explain
from trimtab.selector.explanation.export import card_of, tables_of, write_explanation
from trimtab.selector.explanation.run import Pairs, Reader, Where, run
from trimtab.selector.explanation.seen import Seen, read_seen
from trimtab.selector.exported.folder import read_card, read_explanation
from trimtab.selector.exported.verify import problems
from trimtab.selector.material import Material, gather
from trimtab.selector.report.explained import render_explanation, said
from trimtab.steering.damage import Damage
from trimtab.steering.formats import StoredVector, safetensors
from trimtab.steering.formats.stored import VECTOR_FILE
from trimtab.steering.margin import Margin
from trimtab.store import Store, build

POINT = HookPoint(1, "hook_resid_post")
WORDS = (
    "think", "should", "rather", "course", "quick", "brown",
    "lazy", "answer", "agree", "fox", "dog", "help",
)  # fmt: skip
BUDGET = 0.05
RANDOM = torch.randn(16, generator=torch.Generator().manual_seed(3)).numpy()


def pair(number: int) -> Sample:
    word = WORDS[number % 12]
    return Sample(
        f"pair-{number}",
        "refusal",
        ({"role": "user", "content": f"What is the {word} question {number}?"},),
        f"Sorry, I cannot {word}.",
        f"Yes, of course I would {word} {number}.",
        word,
    )


PAIRS = [pair(i) for i in range(24)]


def stored(direction: np.ndarray = RANDOM, point: HookPoint = POINT, **more: Any) -> StoredVector:
    return StoredVector(
        direction.astype(np.float32), point, more.pop("positions", "prompt_end"), **more
    )


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel, tiny_sae: SAE
) -> Store:
    path = tmp_path_factory.mktemp("explaining") / "store"
    return build(path, PAIRS, tiny_model, tiny_sae, progress=False)


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory,
    store: Store,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
) -> Explanation:
    work = tmp_path_factory.mktemp("explained") / "work"
    against = Against(store, "refusal")
    return explain(
        stored(multiplier=2.0), tiny_model, tiny_sae, work, against=against, budget=BUDGET
    )


@pytest.fixture
def folder(found: Explanation, tmp_path: Path) -> Path:
    out = tmp_path / "explained"
    tables = tables_of(found)
    write_explanation(card_of(found, tmp_path / "v.npy", tables), tables, out)
    return out


def test_damage_and_effect_are_those_of_the_vector_itself(
    found: Explanation, tiny_model: LanguageModel, store: Store
) -> None:
    damage = Damage(tiny_model, POINT, max_texts=TEXTS)
    for multiplier, expected in (
        (found.calibration.multiplier, found.calibration.damage),
        (2.0, found.own_damage),
    ):
        there = damage(found.vector.edit(multiplier))
        assert there.mean == pytest.approx(expected.mean, rel=1e-3)
        assert there.p95 == pytest.approx(expected.p95, rel=1e-3)
    assert found.calibration.damage.mean == pytest.approx(BUDGET, rel=0.03)
    assert found.effects is not None and found.material is not None
    change = found.vector.edit(found.calibration.multiplier)
    assert change is not None
    effects = Margin(tiny_model, found.material.report, POINT).effects(change)
    card = found.effects.to_json()
    assert card["effects"]["vector"]["effect"]["value"] == pytest.approx(effects.mean(), abs=1e-4)


def test_every_control_stands_beside_it_at_the_same_damage(found: Explanation) -> None:
    assert found.effects is not None
    outcomes = found.effects.outcomes
    assert next(iter(outcomes)) == "vector"
    assert {
        "its_negative", "4_features", "16_features", "dense_mean_difference", "random_direction",
        "lexical", "unsteered", "prompting",
    } <= set(outcomes)  # fmt: skip
    for name, outcome in outcomes.items():
        if name not in ("unsteered", "prompting"):
            assert outcome.calibration is not None
            assert outcome.calibration.damage.mean == pytest.approx(BUDGET, rel=0.03), name
    assert outcomes["random_direction"].draws == 5
    # 16 features span the 16 dimensions, so that they are the vector again.
    np.testing.assert_allclose(
        outcomes["16_features"].effects, outcomes["vector"].effects, atol=0.02
    )


def test_what_makes_the_dense_vector_is_not_measured_on(found: Explanation) -> None:
    assert found.material is not None and found.effects is not None
    made = {sample.group for sample in found.material.select}
    measured = {sample.group for sample in found.effects.held_out.margin.samples}
    assert made and measured
    assert not made & measured


def test_the_dense_vector_explained_is_its_own_control(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, found: Explanation, tmp_path: Path
) -> None:
    assert found.material is not None
    dense = found.material.pools["mean"].residual.mean(0).numpy()
    again = explain(
        stored(dense), tiny_model, None, tmp_path, against=Against(store, "refusal"), budget=BUDGET
    )
    assert again.decomposition is None and again.effects is not None
    outcomes = again.effects.outcomes
    np.testing.assert_allclose(
        outcomes["vector"].effects, outcomes["dense_mean_difference"].effects, atol=1e-3
    )
    assert "4_features" not in outcomes


def test_positions_of_the_file_are_those_that_are_steered(
    store: Store, tiny_model: LanguageModel, found: Explanation, tmp_path: Path
) -> None:
    everywhere = explain(
        stored(positions="all"),
        tiny_model,
        None,
        tmp_path,
        against=Against(store, "refusal"),
        budget=BUDGET,
    )
    assert everywhere.effects is not None and found.effects is not None
    one, two = (e.outcomes["vector"].effects for e in (everywhere.effects, found.effects))
    assert np.abs(one - two).max() > 1e-4


def test_a_folder_stands_alone_and_is_no_exported_vector(folder: Path, found: Explanation) -> None:
    names = {"card.json", "decomposition.parquet", "features.parquet", "replies.parquet"}
    assert {file.name for file in folder.iterdir()} == names
    card = read_explanation(folder)
    assert card is not None
    assert card["decomposition"] == pl.read_parquet(folder / "decomposition.parquet").to_dicts()
    assert card["damage"]["at_own_strength"]["multiplier"] == 2.0
    features = pl.read_parquet(folder / "features.parquet")
    assert found.decomposition is not None
    taken = features.drop_nulls("step").sort("step")
    assert taken["feature"].to_list() == list(found.decomposition.pursued)
    assert taken["share"].sum() == pytest.approx(1.0, abs=1e-4)  # of 16 dimensions, nothing is left
    for complaint in (read_card, problems):
        with pytest.raises(VectorError, match="holds the explanation of a vector, not the vector"):
            complaint(folder)
    json.dumps(card, allow_nan=False)


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.tags.add(tag)


def test_a_report_needs_no_model_and_trusts_no_text(folder: Path) -> None:
    hostile = "<script>alert(1)</script>"
    replies = pl.read_parquet(folder / "replies.parquet")
    replies.with_columns(reply=pl.lit(hostile), question=pl.lit(hostile)).write_parquet(
        folder / "replies.parquet"
    )
    features = pl.read_parquet(folder / "features.parquet")
    features.with_columns(label=pl.lit(hostile), label_source=pl.lit(hostile)).write_parquet(
        folder / "features.parquet"
    )
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "file": hostile}))
    page = render_explanation(folder).read_text(encoding="utf-8")
    tags = Page(page).tags
    assert "svg" in tags
    assert not {"script", "img", "link", "iframe"} & tags
    assert "&lt;script&gt;" in page


def test_sentences_say_no_more_than_intervals(found: Explanation, tmp_path: Path) -> None:
    card = card_of(found, tmp_path, tables_of(found))
    told = " ".join(said(card))
    assert "cosine" in told and "random direction" in told
    assert "Only the vector’s maker knows" in told
    unclear = {"value": 0.1, "low": -0.1, "high": 0.3}
    card["effects"]["vector"]["effect"] = unclear
    for row in card["effects"].values():
        row["effect_beyond"] = unclear
    card["judge"] = {"reliable": False, "accuracy": 0.6}
    told = " ".join(said(card))
    assert "not clear of zero" in told
    assert "not clearly more than random directions" in told
    assert "Behaviour rates mean nothing here" in told
    assert "raises" not in told


class Stop(Exception):
    pass


def test_an_interrupted_explanation_resumes(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, found: Explanation, tmp_path: Path
) -> None:
    def say(stage: str, done: int, total: int) -> None:
        if stage.startswith("measuring dense"):
            raise Stop

    arguments = (stored(multiplier=2.0), tiny_model, tiny_sae, tmp_path)
    options = {"against": Against(store, "refusal"), "budget": BUDGET}
    with pytest.raises(Stop):
        explain(*arguments, say=say, **options)  # type: ignore[arg-type]
    lines = (tmp_path / "journal.jsonl").read_bytes().split(b"\n")
    again = explain(*arguments, **options)  # type: ignore[arg-type]
    after = (tmp_path / "journal.jsonl").read_bytes().split(b"\n")
    assert after[: len(lines) - 1] == lines[:-1]
    assert len(set(after)) == len(after) > len(lines)
    assert again.effects is not None and found.effects is not None
    assert again.effects.to_json() == found.effects.to_json()
    with pytest.raises(SelectionError, match=r"budget: 0\.05 then, 0\.1 now"):
        explain(*arguments, against=Against(store, "refusal"))


def test_another_models_or_saes_explanation_is_not_gone_on_with(
    tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        explain(stored(), tiny_model, tiny_sae, tmp_path, say=stop)
    module = deepcopy(tiny_model.module)
    module.get_input_embeddings().weight.mul_(2)
    with pytest.raises(SelectionError, match=r"\(model_sha256: "):
        explain(stored(), replace(tiny_model, module=module), tiny_sae, tmp_path, say=stop)
    with pytest.raises(SelectionError, match=r"sae_sha256: .* None now"):
        explain(stored(), tiny_model, None, tmp_path, say=stop)
    with pytest.raises(Stop):  # the same weights elsewhere
        explain(stored(), replace(tiny_model, name="moved"), tiny_sae, tmp_path, say=stop)


@pytest.fixture
def loads_tiny(
    monkeypatch: pytest.MonkeyPatch, tiny_model: LanguageModel, tiny_sae: SAE
) -> Callable[[], None]:
    def load(*_: object, **__: object) -> LanguageModel:
        return tiny_model

    monkeypatch.setattr(running, "load_model", load)
    monkeypatch.setattr(running, "load_model_of", load)
    monkeypatch.setattr(running, "load_sae", lambda spec, _: None if spec == "none" else tiny_sae)
    monkeypatch.setattr(running, "load_for", lambda *_, **__: (tiny_model, None))
    return lambda: None


@pytest.mark.usefixtures("loads_tiny")
def test_pairs_that_no_store_holds_are_run_first(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", RANDOM)
    out = tmp_path / "explained"
    card, tables = run(
        tmp_path / "v.npy",
        Pairs(samples=PAIRS),
        out,
        where=Where(HookPoint(2, "hook_resid_post")),
        reader=Reader(sae="none"),
        budget=BUDGET,
        progress=False,
    )
    assert card["hook_point"] == "blocks.2.hook_resid_post"
    assert "dense_mean_difference" in card["effects"]
    assert set(tables) == {"replies"}
    assert {file.name for file in tmp_path.iterdir()} == {"v.npy", "explained"}
    assert (out / "report.html").stat().st_size > 10_000
    assert card["decomposition"] is None


def ids_of(card: dict[str, Any]) -> set[str]:
    return {i for ids in card["splits"].values() for i in ids}


@pytest.mark.usefixtures("loads_tiny")
def test_pairs_of_another_call_are_not_measured_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "v.npy", RANDOM)
    others = [replace(sample, id=f"other {sample.id}") for sample in PAIRS]

    def stop(*_: object, **__: object) -> Any:
        raise Stop

    def again(samples: list[Sample]) -> dict[str, Any]:
        arguments = (tmp_path / "v.npy", Pairs(samples=samples), tmp_path / "explained")
        card, _ = run(
            *arguments,
            where=Where(POINT),
            reader=Reader(sae="none"),
            budget=BUDGET,
            progress=False,
        )
        return card

    for cut, samples in (("explain", others), ("render_explanation", PAIRS)):
        with monkeypatch.context() as patched:
            patched.setattr(running, cut, stop)
            with pytest.raises(Stop):
                again(samples)
    with pytest.raises(SelectionError, match="unfinished run with other settings"):
        again(others)
    assert ids_of(again(PAIRS)) == {sample.id for sample in PAIRS}


@pytest.mark.usefixtures("loads_tiny")
def test_an_explanation_interrupted_at_its_report_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "v.npy", RANDOM)
    out = tmp_path / "explained"

    def stop(folder: Path) -> Path:
        raise Stop

    def again() -> None:
        run(
            tmp_path / "v.npy",
            out=out,
            where=Where(POINT),
            reader=Reader(sae="none"),
            budget=BUDGET,
            progress=False,
        )

    with monkeypatch.context() as patched:
        patched.setattr(running, "render_explanation", stop)
        with pytest.raises(Stop):
            again()
    assert not out.exists()
    assert (tmp_path / "explained.work" / "journal.jsonl").exists()
    again()
    assert {file.name for file in tmp_path.iterdir()} == {"v.npy", "explained"}
    assert (out / "report.html").stat().st_size > 1000


FORM = {"sae": "none", "prompt_form": "chat", "system_prompt": "default"}


@pytest.mark.usefixtures("loads_tiny")
def test_another_model_of_the_same_width_is_not_the_cards(
    tmp_path: Path, tiny_model: LanguageModel
) -> None:
    safetensors.write(stored(), tmp_path / VECTOR_FILE)
    own = tiny_model.fingerprint()
    other = own | {"model": "org/other", "model_sha256": "0" * 64}

    def again(fields: dict[str, str]) -> None:
        card = {"settings": {}, "fingerprint": fields | FORM}
        (tmp_path / "card.json").write_text(json.dumps(card))
        run(tmp_path, reader=Reader("elsewhere"), budget=BUDGET, progress=False)

    with pytest.raises(SelectionError, match="made for model org/other, and tiny-llama is another"):
        again(other)
    again(other | {"model_dtype": "bfloat16"})  # of which the bytes say nothing
    again(own | {"model": "org/copied"})


@pytest.mark.usefixtures("loads_tiny")
def test_a_store_of_another_model_than_the_cards_is_refused(
    tmp_path: Path, store: Store, tiny_model: LanguageModel
) -> None:
    folder = export(tmp_path, PAIRS, {**tiny_model.fingerprint(), "model_config_sha256": "0" * 64})
    for file in (folder, folder / VECTOR_FILE):
        with pytest.raises(SelectionError, match=r"is another: model_config_sha256 .* store"):
            run(file, Pairs(store), budget=BUDGET, progress=False)


def export(
    folder: Path,
    chosen_on: list[Sample],
    fingerprint: dict[str, str],
    prompts: tuple[str, ...] = (),
) -> Path:
    """A vector as `select` exports it of these pairs with seed 0: what `explain` reads of it."""
    safetensors.write(stored(), folder / VECTOR_FILE)
    split_of = {i: name for name, ids in split(chosen_on, 0, SHARES).to_json().items() for i in ids}
    card = {"settings": {}, "fingerprint": fingerprint | FORM, "measured": {"prompts": prompts}}
    (folder / "card.json").write_text(json.dumps(card))
    pl.DataFrame(
        [
            {"group": sample.group, "split": split_of[sample.id], "prompt": sample.prompt,
             "positive": sample.positive, "negative": sample.negative}
            for sample in chosen_on
        ]
    ).write_parquet(folder / "samples.parquet")  # fmt: skip
    return folder


SHARES = Against.shares


def apart(number: int) -> Sample:
    return replace(pair(number), id=f"apart {number}", group=f"group {number}")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel) -> Store:
    """Of 60 pairs, a group each."""
    path = tmp_path_factory.mktemp("grown") / "store"
    pairs = [apart(i) for i in range(60)]
    return build(path, pairs, tiny_model, None, hook_point=str(POINT), progress=False)


@pytest.mark.usefixtures("loads_tiny")
def test_an_exported_vector_is_not_measured_on_what_chose_it(
    tmp_path: Path, grown: Store, tiny_model: LanguageModel
) -> None:
    pairs = grown.samples()
    folder = export(tmp_path, pairs[:24], tiny_model.fingerprint())
    card, tables = run(folder, Pairs(grown), budget=BUDGET, progress=False)
    before, now = split(pairs[:24], 0, SHARES), split(pairs, 0, SHARES)
    chose = {*before.select, *before.tune}
    unseen = [sample for sample in pairs if sample.id in set(now.report) - chose]
    assert card["splits"]["report"] == [sample.id for sample in unseen]
    assert card["held_out"]["n_pairs"] == len(unseen)
    assert set(tables["replies"]["question"]) == {sample.prompt for sample in unseen}
    without = len(now.report) - len(unseen)
    assert card["left_out"] == {"pairs": without, "questions": without}
    assert without > 0
    told = " ".join(said(card))
    assert f"pairs {without}, questions {without}" in told
    assert "Only the vector’s maker knows" not in told


def material_of(store: Store, questions: list[str] | None = None, seed: int = 0) -> Material:
    return gather(
        store, None, "refusal", questions=questions, poolings=("mean",), shares=SHARES, seed=seed
    )


def seen_by(folder: Path, chosen_on: list[Sample], prompts: tuple[str, ...] = ()) -> Seen:
    export(folder, chosen_on, {}, prompts)
    return read_seen(folder, read_card(folder))


def test_of_the_same_splits_and_of_another_data_set_nothing_is_left_out(
    tmp_path: Path, grown: Store
) -> None:
    found = material_of(grown)
    others = [
        replace(sample, messages=({"role": "user", "content": f"Otherwise {i}?"},))
        for i, sample in enumerate(grown.samples())
    ]
    for chosen_on in (grown.samples(), others):  # whatever the groups of others are called
        left, left_out = seen_by(tmp_path, chosen_on).left_out_of(found)
        assert left_out == {"pairs": 0, "questions": 0}
        assert (left.report, left.questions, left.splits) == (
            found.report, found.questions, found.splits,
        )  # fmt: skip


def test_a_pair_that_chose_the_vector_is_known_by_what_it_says(
    tmp_path: Path, grown: Store
) -> None:
    found = material_of(grown, seed=2)
    expected, left_out = seen_by(tmp_path, grown.samples()[:24]).left_out_of(found)
    assert left_out["pairs"] > 0
    seen = seen_by(tmp_path, grown.samples()[:24])
    renamed = replace(seen, groups=frozenset(f"called {group}" for group in seen.groups))
    assert renamed.left_out_of(found)[0].report == expected.report


def test_a_prompt_that_every_split_shares_leaves_out_the_pairs_that_chose_and_no_others(
    tmp_path: Path, tiny_model: LanguageModel
) -> None:
    asked = ({"role": "user", "content": "Would you say this?"},)
    statements = [replace(apart(i), messages=asked, positive=f"I say {i}.") for i in range(48)]
    store = build(
        tmp_path / "store", statements, tiny_model, None, hook_point=str(POINT), progress=False
    )
    seen = seen_by(tmp_path, statements[:24])
    left, left_out = seen.left_out_of(material_of(store))
    assert left_out["pairs"] > 0
    assert left.report
    assert not {sample.group for sample in left.report} & seen.groups


def test_questions_whose_replies_chose_the_vector_are_not_asked(
    tmp_path: Path, grown: Store
) -> None:
    asked = ["What now?", "And then, pray?"]
    seen = seen_by(tmp_path, grown.samples(), prompts=("what NOW",))
    left, left_out = seen.left_out_of(material_of(grown, asked))
    assert [conversation[0]["content"] for conversation in left.questions] == asked[1:]
    assert left_out == {"pairs": 0, "questions": 1}
    with pytest.raises(SelectionError, match="every question to measure on took part"):
        seen.left_out_of(material_of(grown, asked[:1]))


def test_where_too_little_is_left_that_did_not_choose_the_vector_that_is_said(
    tmp_path: Path, grown: Store
) -> None:
    seen = seen_by(tmp_path, grown.samples())
    with pytest.raises(SelectionError, match=r"took part in choosing .*without --seed"):
        seen.left_out_of(material_of(grown, seed=1))
    (tmp_path / "samples.parquet").write_bytes(b"nothing")
    with pytest.raises(VectorError, match="not known which pairs chose the vector"):
        read_seen(tmp_path, read_card(tmp_path))


def test_replies_are_judged_by_every_pair_that_is_not_measured_on(
    store: Store, tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "MAX_TUNE", 2)
    found = explain(
        stored(), tiny_model, None, tmp_path, against=Against(store, "refusal"), budget=BUDGET
    )
    assert found.material is not None and found.effects is not None
    splits = found.material.splits
    assert len(found.material.tune) < len(splits.tune)
    learnt_from = found.effects.bench.classifier.n_texts
    assert learnt_from == 2 * len([*splits.select, *splits.tune])


@pytest.mark.usefixtures("loads_tiny")
def test_without_pairs_there_are_decomposition_and_damage(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", RANDOM)
    card, tables = run(tmp_path / "v.npy", where=Where(POINT), budget=BUDGET, progress=False)
    assert "effects" not in card
    assert card["behavior"] is None
    assert set(tables) == {"decomposition", "features"}
    assert card["damage"]["kl_mean"] == pytest.approx(BUDGET, rel=0.03)
    write_explanation(card, tables, tmp_path / "explained")
    assert (
        "Compared with its controls" not in render_explanation(tmp_path / "explained").read_text()
    )


def test_what_does_not_fit_together_is_said(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    elsewhere = stored(point=HookPoint(2, "hook_resid_post"))
    with pytest.raises(VectorError, match="hook point with --sae"):
        explain(elsewhere, tiny_model, tiny_sae, tmp_path)
    with pytest.raises(VectorError, match="with --pairs"):
        explain(elsewhere, tiny_model, None, tmp_path, against=Against(store, "refusal"))
    with pytest.raises(VectorError, match="made for another model"):
        explain(stored(np.ones(12)), tiny_model, None, tmp_path)
    with pytest.raises(SelectionError, match="name one with --behavior"):
        Pairs(samples=PAIRS, behavior="tone").chosen()
    (tmp_path / "taken").mkdir()
    with pytest.raises(VectorError, match="already exists"):
        run(tmp_path / "v.npy", out=tmp_path / "taken", progress=False)


def test_what_goes_into_a_block_is_what_comes_out_of_the_one_before(
    tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    before = explain(
        stored(point=HookPoint(2, "hook_resid_pre")), tiny_model, tiny_sae, tmp_path, budget=BUDGET
    )
    assert before.decomposition is not None
