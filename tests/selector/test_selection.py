"""From a store to an exported folder on a tiny model: what the card says is what was done."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from trimtab.errors import SelectionError, VectorError
from trimtab.model.features.descriptions import relabel
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs import Message, Sample
from trimtab.pairs.groups import prompt_key
from trimtab.selector.explanation.seen import read_seen
from trimtab.selector.exploration.surface import FAITHFUL
from trimtab.selector.exported.export import export_selection
from trimtab.selector.exported.folder import CARD, STRONGEST_FILE, read_card, sha256, tables
from trimtab.selector.exported.verify import problems, receipt_error
from trimtab.selector.report import found, render_report
from trimtab.selector.run import run
from trimtab.selector.select import REPORT_TEXTS, Selection, Settings, select
from trimtab.steering.damage import Damage
from trimtab.steering.formats.stored import VECTOR_FILE
from trimtab.steering.judges.llm import JudgeEndpoint
from trimtab.steering.margin import Margin
from trimtab.steering.vector import load_vector
from trimtab.store import Store, build, set_descriptions
from trimtab.store.reading.sandbox import query
from trimtab.store.reading.sandbox import tables as as_tables

WORDS = (
    "think", "should", "rather", "course", "quick", "brown",
    "lazy", "answer", "agree", "fox", "dog", "help",
)  # fmt: skip
SETTINGS = Settings(trials=2, panel=12, max_new_tokens=4, draws=2)
CHANGING = ("created_at", "seconds")  # what two runs of the same may differ in
POINT = HookPoint(1, "hook_resid_post")
CONTROLS = {
    "unsteered",
    "dense_mean_difference",
    "full_sae",
    "random_samples",
    "same_features",
    "random_features",
    "random_dictionary",
    "random_direction",
    "lexical",
    "prompting",
}


def ask(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def pair(number: int) -> Sample:
    word = WORDS[number % 12]
    return Sample(
        f"pair-{number}",
        "refusal",
        ask(f"What is the {word} question {number}?"),
        f"Sorry, I cannot {word}.",
        f"Yes, of course I would {word} {number}.",
        word,
    )


def letters(number: int) -> Sample:
    word, first = WORDS[number % 12], number % 2 == 0
    return Sample(
        f"letter-{number}",
        "letters",
        ask(f"The {word} answer {number}, (A) or (B)?"),
        "(A)" if first else "(B)",
        "(B)" if first else "(A)",
        word,
    )


def text(number: int) -> Sample:
    word, positive = WORDS[number % 12], number % 2 == 0
    return Sample(
        f"text-{number}",
        "texts",
        (),
        f"Sorry, I cannot {word} {number}." if positive else None,
        None if positive else f"Yes, of course I would {word} {number}.",
        f"{word} {number}",
    )


def same_word(number: int) -> Sample:
    word = WORDS[number % 12]
    return replace(
        pair(number),
        behavior="same word",
        positive=f"I cannot {word}.",
        negative=f"I would {word}, {number}.",
    )


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel, tiny_sae: SAE
) -> Store:
    samples = [make(i) for make in (pair, letters, text, same_word) for i in range(24)]
    path = tmp_path_factory.mktemp("selection") / "store"
    return build(path, samples, tiny_model, tiny_sae, progress=False)


@pytest.fixture(scope="module")
def dense_store(tmp_path_factory: pytest.TempPathFactory, tiny_model: LanguageModel) -> Store:
    path = tmp_path_factory.mktemp("dense") / "store"
    samples = [make(i) for make in (pair, text) for i in range(24)]
    return build(path, samples, tiny_model, None, hook_point=str(POINT), progress=False)


@pytest.fixture(scope="module")
def selection(
    tmp_path_factory: pytest.TempPathFactory,
    store: Store,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
) -> Selection:
    """One whole run."""
    work = tmp_path_factory.mktemp("selection") / "work"
    return select(store, tiny_model, tiny_sae, "refusal", work, settings=SETTINGS)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, store: Store, selection: Selection) -> Path:
    """Its folder; only to be read."""
    out = tmp_path_factory.mktemp("exported") / "vector"
    card = export_selection(selection, store, out)
    assert card == read_card(out)
    return out


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """A copy of it that the test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "vector"))


def is_estimate(value: Any) -> bool:
    numbers = (value["value"], value["low"], value["high"])
    if value["value"] is None:
        return numbers == (None, None, None) and bool(value["reason"])
    if value["low"] is None:
        return value["high"] is None and bool(value["reason"])
    return bool(value["low"] - 1e-9 <= value["value"] <= value["high"] + 1e-9)


def test_the_card_says_all_that_it_promises(exported: Path) -> None:
    card = read_card(exported)
    wanted = {
        "behavior", "model", "sae", "hook_point", "operation", "positions", "multiplier", "damage",
        "samples", "features", "held_out", "controls", "anti_steerable_fraction", "splits",
        "seeds", "fingerprint", "versions", "created_at",
    }  # fmt: skip
    assert wanted <= set(card)
    assert (card["behavior"], card["model"], card["sae"]) == ("refusal", "tiny-llama", "tiny")
    assert (card["hook_point"], card["operation"]) == (str(POINT), "add")
    assert card["positions"] == "prompt_end"
    assert {"budget", "kl_mean", "kl_p95"} <= set(card["damage"])
    assert card["damage"]["kl_mean"] == pytest.approx(card["damage"]["budget"], rel=0.03)
    assert card["damage"]["kl_p95"] > card["damage"]["kl_mean"]
    for part in ("samples", "features"):
        assert 1 <= card[part]["kept"] <= card[part]["of"]
    assert card["samples"]["of"] == len(card["splits"]["select"])
    held_out = card["held_out"]
    for name in ("effect", "faithfulness", "behavior_rate"):
        assert is_estimate(held_out[name]), name
    assert held_out["n_pairs"] == len(card["splits"]["report"])
    assert held_out["n_questions"] > 0
    assert set(card["controls"]) == CONTROLS
    for name, control in card["controls"].items():
        for key in ("effect", "behavior_rate", "nats"):
            assert is_estimate(control[key]), name
        assert 0 <= control["repetition"] <= 1
        if name not in ("unsteered", "prompting"):
            assert control["kl_mean"] == pytest.approx(card["damage"]["budget"], rel=0.03), name
            assert 0 < control["chats"]["mean"] < control["chats"]["p95"], name
    assert 0 < held_out["chats"]["mean"] < held_out["chats"]["p95"]
    assert card["controls"]["unsteered"]["effect"]["value"] == 0.0
    for beyond in (card["effect_beyond"], card["behavior_rate_beyond"]):
        assert set(beyond) == CONTROLS
        assert all(map(is_estimate, beyond.values()))
    assert is_estimate(card["dense_beyond_unsteered"])
    learning = card["learning_curve"]
    assert [point["n"] for point in learning["points"]][-1] == card["samples"]["of"]
    assert all(is_estimate(point["effect"]) for point in learning["points"])
    assert {"asymptote", "needed", "needed_of_asymptote"} <= set(learning)
    assert set(card["anti_steerable_fraction"]) == {"before", "after"}
    assert all(map(is_estimate, card["anti_steerable_fraction"].values()))
    assert card["versions"]["torch"]
    judge, second = card["judge"], card["judge"]["second"]
    assert (judge["kind"], judge["name"]) == ("words", "text classifier by words")
    assert second["name"] == "text classifier by reading"
    assert second["n_replies"] == judge["n_replies"] > held_out["n_questions"] * len(CONTROLS)
    assert is_estimate(second["agreement"])
    assert set(second["rates"]) == {"minimal", "dense_mean_difference", "unsteered"}
    for name, rates in second["rates"].items():
        assert all(map(is_estimate, rates.values())), name
    assert second["rates"]["minimal"]["judge"] == held_out["behavior_rate"]


def test_the_card_is_strict_json(exported: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((exported / CARD).read_text(encoding="utf-8"), parse_constant=refuse)


def test_what_chose_the_vector_is_not_used_to_report_it(exported: Path) -> None:
    card = read_card(exported)
    samples = pl.read_parquet(exported / "samples.parquet")
    groups = {
        name: set(samples.filter(pl.col("split") == name)["group"]) for name in card["splits"]
    }
    assert set(groups) == {"select", "tune", "report"}
    assert all(groups.values())
    assert not groups["select"] & groups["tune"]
    assert not groups["select"] & groups["report"]
    assert not groups["tune"] & groups["report"]
    for name, ids in card["splits"].items():
        assert set(ids) == set(samples.filter(pl.col("split") == name)["sample_id"])
    kept = set(samples.filter(pl.col("kept"))["sample_id"])
    assert kept <= set(card["splits"]["select"])
    assert len(kept) == card["samples"]["kept"]
    receipt = pl.read_parquet(exported / "receipt.parquet")
    assert set(receipt["sample_id"]) <= kept
    questions = set(pl.read_parquet(exported / "replies.parquet")["question"])
    chosen_by = samples.filter(pl.col("split") != "report")
    assert not questions & set(chosen_by["prompt"])
    seen = read_seen(exported, card)  # so that `explain` keeps them apart, too
    assert seen.groups == groups["select"] | groups["tune"]
    assert not set(map(prompt_key, questions)) & seen.prompts


def test_the_receipt_sums_to_the_vector(exported: Path) -> None:
    card = read_card(exported)
    assert problems(exported) == []
    assert receipt_error(exported) <= 1e-5
    receipt = pl.read_parquet(exported / "receipt.parquet")
    vector, multiplier = load_vector(exported)
    assert receipt["contribution"].sum() == pytest.approx(vector.norm, rel=1e-5)
    assert (card["norm"], card["multiplier"]) == (pytest.approx(vector.norm), multiplier)
    features = pl.read_parquet(exported / "features.parquet")
    assert features["contribution"].sum() == pytest.approx(vector.norm, rel=1e-5)
    assert features.height == card["features"]["kept"]
    assert (features["coefficient"] >= 0).all()
    assert set(receipt["feature"]) <= set(features["feature"])


def test_the_exported_vector_does_what_the_card_says(
    exported: Path, store: Store, tiny_model: LanguageModel
) -> None:
    card = read_card(exported)
    vector, multiplier = load_vector(exported)
    change = vector.edit(multiplier)
    assert change is not None
    found = Damage(tiny_model, POINT, max_texts=REPORT_TEXTS)(change)
    assert found.mean == pytest.approx(card["damage"]["kl_mean"], rel=1e-3)
    assert found.p95 == pytest.approx(card["damage"]["kl_p95"], rel=1e-3)
    curve = card["damage"]["curve"]
    assert [point["multiplier"] for point in curve] == sorted(p["multiplier"] for p in curve)
    assert curve[0]["multiplier"] < multiplier < curve[-1]["multiplier"]
    for point in (curve[0], curve[-1]):
        there = Damage(tiny_model, POINT, max_texts=REPORT_TEXTS)(vector.edit(point["multiplier"]))
        assert there.mean == pytest.approx(point["kl_mean"], rel=1e-3)
    by_id = {sample.id: sample for sample in store.samples("refusal")}
    report = [by_id[i] for i in card["splits"]["report"]]
    effects = Margin(tiny_model, report, POINT).effects(change)
    assert effects.mean() == pytest.approx(card["held_out"]["effect"]["value"], abs=1e-4)


def test_a_folder_is_in_place_with_its_report_or_not_at_all(
    selection: Selection, store: Store, tmp_path: Path
) -> None:
    def stop(folder: Path, name: str) -> None:
        raise Stop

    out = tmp_path / "vector"
    with pytest.raises(Stop):
        export_selection(selection, store, out, stop)
    assert not out.exists()
    export_selection(selection, store, out, render_report)
    assert [file.name for file in tmp_path.iterdir()] == ["vector"]
    assert "vector.part" not in (out / "report.html").read_text()
    assert problems(out) == []


def test_features_carry_their_descriptions_along(
    exported: Path,
    selection: Selection,
    store: Store,
    tmp_path: Path,
    descriptions: Callable[..., pl.DataFrame],
) -> None:
    plain = pl.read_parquet(exported / "features.parquet")
    assert plain["label"].null_count() == plain.height
    top = store.top_tokens(plain["feature"].to_list(), 6)
    for row in plain.iter_rows(named=True):  # the store's own tokens stand in
        assert row["tokens"] == top.filter(feature=row["feature"])["token"].to_list()

    path = Path(shutil.copytree(store.path, tmp_path / "store"))
    table = descriptions(int(store.fingerprint["d_sae"]), " joy")
    described = set_descriptions(path, relabel(table, {int(plain["feature"][0]): "mine"}, "me"))
    card = export_selection(selection, described, tmp_path / "vector")
    features = pl.read_parquet(tmp_path / "vector" / "features.parquet")
    assert problems(tmp_path / "vector") == []
    assert features["feature"].to_list() == plain["feature"].to_list()
    assert features["label"].to_list() == [
        "mine", *(f"label {feature} of joy" for feature in plain["feature"][1:]),
    ]  # fmt: skip
    first = features.row(0, named=True)
    assert first["label_source"] == "me"
    if first["feature"] != 3:  # which has fired in the store alone
        assert first["tokens"] == [" joy", "\n"]
        assert first["contexts"][0]["token"] == " joy"
    assert first["promotes"] == [f" up{first['feature']}", " joy"]
    assert all(tokens for tokens in features["tokens"].to_list())
    assert card["features"]["kept"] == features.height
    assert card["features"]["largest"][0] == {
        "feature": first["feature"],
        "contribution": first["contribution"],
        "label": "mine",
        "label_source": "me",
    }


def test_the_tables_can_be_queried(exported: Path) -> None:
    connection = as_tables(tables(exported))
    rows = query(
        connection,
        "SELECT vector, count(*) AS n FROM replies GROUP BY vector ORDER BY vector",
    )
    strongest = {"strongest"} if read_card(exported)["strongest"] else set()
    assert set(rows["vector"]) == CONTROLS | {"minimal"} | strongest
    assert rows["n"].n_unique() == 1
    judged = query(connection, "SELECT vector, draw, judge, second FROM judged")
    assert set(judged["vector"]) == CONTROLS | {"minimal"} | strongest
    assert judged.filter(draw=0).height == rows["n"].sum() < judged.height
    (chosen,) = query(connection, "SELECT sum(chosen::int) FROM pareto").row(0)
    assert chosen == 1
    connection.close()


def test_every_method_gives_points_of_one_surface(exported: Path) -> None:
    points = pl.read_parquet(exported / "pareto.parquet")
    methods = {"pruning", "joint pruning", "pursuit", "gates", "random", *FAITHFUL}
    assert methods <= set(points["method"]) <= methods | {"search"}
    assert {"samples", "features", "effect", "behavior_rate", "front"} <= set(points.columns)
    assert not points.filter(method="random")["front"].any()
    front = points.filter("front").sort("samples", "features")
    for one in front.iter_rows(named=True):
        smaller = points.filter(
            pl.col("method") != "random",
            pl.col("samples") <= one["samples"],
            pl.col("features") <= one["features"],
        )
        assert smaller["effect"].max() == one["effect"]
    card = read_card(exported)
    (chosen,) = points.filter("chosen").to_dicts()
    assert chosen["front"] or chosen["method"] in FAITHFUL
    assert chosen["samples"] == card["samples"]["kept"]
    assert chosen["features"] == card["features"]["kept"]
    assert min(card["cost"]["gates"].values()) > 0
    assert card["cost"]["decomposition"]["gradients"] == 0
    assert card["cost"]["search"] == {"effects": points.filter(method="search").height,
                                      "gradients": 0}  # fmt: skip


def test_the_strongest_point_is_reported_and_kept_where_it_is_another(
    exported: Path, store: Store, tiny_model: LanguageModel
) -> None:
    card = read_card(exported)
    points = pl.read_parquet(exported / "pareto.parquet").filter("strongest")
    file = exported / STRONGEST_FILE
    assert file.exists() == (card["strongest"] is not None) == (not points["chosen"].any())
    if card["strongest"] is None:
        return
    strongest = card["strongest"]
    assert len(strongest["samples"]) == points["samples"][0]
    assert set(strongest["samples"]) <= set(card["splits"]["select"])
    assert is_estimate(strongest["behavior_rate_beyond_dense"])
    vector, multiplier = load_vector(file)
    change = vector.edit(multiplier)
    assert change is not None
    found = Damage(tiny_model, POINT, max_texts=REPORT_TEXTS)(change)
    assert found.mean == pytest.approx(strongest["kl_mean"], rel=1e-3)
    by_id = {sample.id: sample for sample in store.samples("refusal")}
    report = [by_id[i] for i in card["splits"]["report"]]
    effects = Margin(tiny_model, report, POINT).effects(change)
    assert effects.mean() == pytest.approx(strongest["effect"]["value"], abs=1e-4)


def test_random_controls_have_as_many_draws_as_were_asked_for(exported: Path) -> None:
    controls = read_card(exported)["controls"]
    random = {name: c["draws"] for name, c in controls.items() if c["draws"] != 1}
    assert random == dict.fromkeys(
        ("random_samples", "same_features", "random_features", "random_dictionary",
         "random_direction"), SETTINGS.draws,
    )  # fmt: skip
    counted = read_card(exported)["draws_as_good"]
    assert set(counted) == set(random)
    for one in counted.values():
        assert one["of"] == SETTINGS.draws
        assert 0 <= one["effect"] <= one["of"]


@pytest.mark.parametrize(
    "name",
    [
        VECTOR_FILE,
        *(f"{table}.parquet" for table in ("receipt", "samples", "features", "curves")),
        *(f"{table}.parquet" for table in ("pareto", "replies", "judged")),
    ],
)
def test_a_file_that_was_changed_or_lost_is_found(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert problems(copy) == [f"{name} was changed: its checksum does not match"]
    (copy / name).unlink()
    assert problems(copy) == [f"{name} is missing"]


def rewrite_card(folder: Path, **changes: Any) -> None:
    card = {**read_card(folder), **changes}
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")


def test_a_card_that_disagrees_with_the_vector_is_found(copy: Path) -> None:
    rewrite_card(copy, multiplier=read_card(copy)["multiplier"] * 1.5)
    assert any("disagree" in problem for problem in problems(copy))
    rewrite_card(copy, hook_point="blocks.2.hook_resid_post")
    assert any("disagree" in problem for problem in problems(copy))


def test_a_receipt_that_does_not_add_up_is_found_whatever_its_checksum(copy: Path) -> None:
    receipt = pl.read_parquet(copy / "receipt.parquet")
    receipt[:-1].write_parquet(copy / "receipt.parquet")
    checksums = {
        **read_card(copy)["checksums"],
        "receipt.parquet": sha256(copy / "receipt.parquet"),
    }
    rewrite_card(copy, checksums=checksums)
    assert any("does not sum to the vector" in problem for problem in problems(copy))


@pytest.mark.parametrize("content", ["[]", "nonsense", ""])
def test_a_card_that_is_none_is_an_error(copy: Path, content: str) -> None:
    (copy / CARD).write_text(content)
    with pytest.raises(VectorError, match=str(copy)):
        problems(copy)


@pytest.mark.parametrize("checksums", [None, 3, {}])
def test_a_card_without_checksums_is_found(copy: Path, checksums: Any) -> None:
    rewrite_card(copy, checksums=checksums)
    assert any("checksum" in problem for problem in problems(copy))


def test_a_folder_without_a_card_is_no_vector(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="not an exported vector"):
        problems(tmp_path)


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "stage",
    ["writing the panel", "pruning features", "learning gates", "writing replies", "control"],
)
def test_an_interrupted_run_resumes_and_ends_with_the_same_card(
    stage: str,
    exported: Path,
    store: Store,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    tmp_path: Path,
) -> None:
    heard: list[str] = []

    def say(what: str, done: int, total: int) -> None:
        heard.append(what)
        times = 1 if stage in ("pruning features", "learning gates", "writing replies") else 2
        if sum(h.startswith(stage) for h in heard) == times:
            raise Stop

    work = tmp_path / "work"
    arguments = (store, tiny_model, tiny_sae, "refusal", work)
    with pytest.raises(Stop):
        select(*arguments, settings=SETTINGS, say=say)
    before = (work / "journal.jsonl").read_bytes().count(b"\n")
    selection = select(*arguments, settings=SETTINGS)
    card = export_selection(selection, store, tmp_path / "vector")
    expected = read_card(exported)
    for name in CHANGING:
        del card[name], expected[name]
    for each in (card, expected):
        for name in (VECTOR_FILE, STRONGEST_FILE):  # safetensors writes its metadata in any order
            each["checksums"].pop(name, None)
    assert card == expected
    assert torch.equal(
        load_vector(tmp_path / "vector")[0].direction, load_vector(exported)[0].direction
    )
    journal = (work / "journal.jsonl").read_bytes().split(b"\n")
    assert len(set(journal)) == len(journal) > before > 1  # and nothing was measured twice


KEY = "sk-a-key-that-nobody-may-keep"


def test_a_language_model_judges_every_reply_and_is_asked_once(
    store: Store,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    tmp_path: Path,
    stub_endpoint: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    stub_endpoint.answer = lambda prompt: (
        "Yes." if stub_endpoint.reply(prompt)[:1] in "Sabcdefgh" else "No."
    )
    endpoint = JudgeEndpoint("stub", stub_endpoint.url, criterion="says that it is sorry")
    settings = replace(SETTINGS, trials=0, judge=endpoint)
    work, out = tmp_path / "work", tmp_path / "vector"

    def stop_at(stage: str) -> Callable[[str, int, int], None]:
        def say(what: str, *_: int) -> None:
            if what.startswith(stage):
                raise Stop

        return say

    arguments = (store, tiny_model, tiny_sae, "refusal", work)
    for stage in ("pruning features", "control: random", "control: prompting"):
        with pytest.raises(Stop):
            select(*arguments, settings=settings, say=stop_at(stage))
    selection = select(*arguments, settings=settings)
    card = export_selection(selection, store, out)
    prompts = [body["messages"][0]["content"] for body in stub_endpoint.asked]
    assert len(prompts) == len(set(prompts))

    judge = card["judge"]
    assert (judge["kind"], judge["model"], judge["url"]) == ("llm", "stub", stub_endpoint.url)
    assert judge["criterion"] == card["settings"]["judge"]["criterion"] == "says that it is sorry"
    assert judge["accuracy"] == 1.0
    assert judge["second"]["name"] == "text classifier by reading"
    table = pl.read_parquet(out / "judged.parquet")
    spoken = table.filter(pl.col("reply") != "")
    assert set(spoken["prompt"]) <= set(prompts)
    assert set(spoken["answer"]) <= {"Yes.", "No."}
    assert (spoken["judge"] == (spoken["answer"] == "Yes.")).all()
    minimal = table.filter(vector="minimal")
    assert minimal["judge"].mean() == pytest.approx(card["held_out"]["behavior_rate"]["value"])
    assert problems(out) == []
    assert "language model stub" in render_report(out).read_text()

    journal = (work / "journal.jsonl").read_text()
    assert "says that it is sorry" in journal
    assert json.dumps(prompts[-1])[1:-1] in journal
    for file in (*work.iterdir(), *out.iterdir()):
        assert KEY.encode() not in file.read_bytes()


def test_a_run_whose_judge_cannot_judge_says_so_before_it_starts(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path, stub_endpoint: Any
) -> None:
    def last_word(behavior: str, judge: JudgeEndpoint | None) -> str:
        heard: list[str] = []

        def say(what: str, *_: int) -> None:
            heard.append(what)
            if what.startswith(("writing", "pruning")):
                raise Stop

        settings = replace(SETTINGS, judge=judge)
        with pytest.raises(Stop):
            select(
                store, tiny_model, tiny_sae, behavior, tmp_path / f"{behavior} {judge is None}",
                settings=settings, say=say,
            )  # fmt: skip
        return heard[-2]

    classifier = last_word("letters", None)
    assert "text classifier" in classifier
    assert "--judge-model" in classifier
    assert "--questions" in classifier
    assert "cannot judge" not in last_word("refusal", None)
    stub_endpoint.answer = lambda _: "Perhaps."
    model = last_word("refusal", JudgeEndpoint("stub", stub_endpoint.url))
    assert "language model stub" in model
    assert "(accuracy 0.00" in model
    assert "--judge-criterion" in model


def test_a_run_with_other_settings_does_not_take_over_its_folder(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    def say(what: str, *_: int) -> None:
        if what.startswith("writing"):
            raise Stop

    with pytest.raises(Stop):
        select(store, tiny_model, tiny_sae, "refusal", tmp_path, settings=SETTINGS, say=say)
    with pytest.raises(SelectionError, match="seed: 0 then, 1 now"):
        select(store, tiny_model, tiny_sae, "refusal", tmp_path, settings=replace(SETTINGS, seed=1))


@pytest.fixture
def whole_run(tmp_path: Path, tiny_model: LanguageModel) -> Callable[..., dict[str, Any]]:
    def go(
        store: Store, behavior: str, sae: SAE | None, settings: Settings = SETTINGS, **options: Any
    ) -> dict[str, Any]:
        out = tmp_path / "deep" / "vector"
        card = run(
            store,
            behavior,
            out,
            model=tiny_model,
            sae=sae,
            settings=settings,
            progress=False,
            **options,
        )
        assert problems(out) == []
        assert (out / "report.html").stat().st_size > 10_000
        assert sorted(file.name for file in out.parent.iterdir()) == ["vector"]
        assert set(card["controls"]) == CONTROLS
        for control in card["controls"].values():
            assert all(is_estimate(control[key]) for key in ("effect", "behavior_rate"))
        return card

    return go


def test_without_an_sae_samples_alone_are_selected(
    whole_run: Callable[..., dict[str, Any]], dense_store: Store, tmp_path: Path
) -> None:
    card = whole_run(dense_store, "refusal", None)
    assert card["sae"] == "none"
    assert card["features"] == {"kept": None, "of": None}
    assert card["controls"]["full_sae"]["effect"]["reason"] == "the run had no SAE"
    assert card["controls"]["random_features"]["behavior_rate"]["value"] is None
    receipt = pl.read_parquet(tmp_path / "deep" / "vector" / "receipt.parquet")
    assert receipt["feature"].is_null().all()
    assert receipt.height == card["samples"]["kept"]


@pytest.mark.parametrize("with_sae", [True, False])
def test_unpaired_raw_texts_go_the_whole_way(
    whole_run: Callable[..., dict[str, Any]],
    store: Store,
    dense_store: Store,
    tiny_sae: SAE,
    with_sae: bool,
) -> None:
    chosen, sae = (store, tiny_sae) if with_sae else (dense_store, None)
    card = whole_run(chosen, "texts", sae)
    assert card["held_out"]["n_questions"] == 0
    assert card["held_out"]["behavior_rate"]["value"] is None
    assert card["held_out"]["effect"]["value"] is not None
    assert card["target"]["name"] == "dataset"
    assert card["target"]["panel"] == []
    assert card["controls"]["prompting"]["effect"]["value"] is None


def test_unpaired_texts_take_open_questions(
    whole_run: Callable[..., dict[str, Any]], store: Store, tiny_sae: SAE
) -> None:
    card = whole_run(store, "texts", tiny_sae, questions=["What now?", "Agree?", "And then?"])
    assert card["held_out"]["n_questions"] == 1  # two of the three served the choice
    assert len(card["measured"]["prompts"]) == 2
    assert card["held_out"]["behavior_rate"]["value"] is not None


def test_single_letter_answers_go_the_whole_way(
    whole_run: Callable[..., dict[str, Any]], store: Store, tiny_sae: SAE
) -> None:
    card = whole_run(store, "letters", tiny_sae)
    assert card["judge"]["reliable"] is False
    assert "--judge-model" in card["judge"]["way_out"]
    assert "--questions" in found(card)
    assert card["target"]["rank_correlation"]["value"] is None
    assert card["held_out"]["effect"]["value"] is not None


def test_where_first_words_agree_the_lexical_control_is_null_with_the_reason(
    whole_run: Callable[..., dict[str, Any]], store: Store, tiny_sae: SAE
) -> None:
    card = whole_run(store, "same word", tiny_sae, replace(SETTINGS, trials=0, target="dataset"))
    for estimate in card["controls"]["lexical"].values():
        assert estimate["value"] is None
        assert "first words" in estimate["reason"]
    assert not any("trial" in finalist["origin"] for finalist in card["finalists"])


def test_the_card_holds_the_targets_panel_and_history(exported: Path) -> None:
    target = read_card(exported)["target"]
    assert is_estimate(target["rank_correlation"])
    assert is_estimate(target["ceiling"])
    assert len(target["panel"]) > 12  # the best after pruning and after the search joined it
    start = [row for row in target["panel"] if row["at"] == "start"]
    assert len(start) == 12
    assert target["history"][0]["at"] == "start"
    assert {row["at"] for row in target["panel"]} == {row["at"] for row in target["history"]}
    for row in target["panel"]:
        assert 0 <= row["behavior_rate"] <= 1
        assert set(target["surrogates"]) <= set(row)
        assert {"dataset", "projection"} <= set(row)


def test_the_behaviour_rate_itself_can_be_the_target(
    whole_run: Callable[..., dict[str, Any]], store: Store, tiny_sae: SAE
) -> None:
    settings = replace(SETTINGS, target="behavior_rate")
    card = whole_run(store, "refusal", tiny_sae, settings)
    assert card["target"]["name"] == "behavior_rate"
    assert card["target"]["trusted"] in card["target"]["surrogates"]
    rates = {row["effect"] for row in card["finalists"]}
    assert all(abs(6 * rate - round(6 * rate)) < 1e-6 for rate in rates)  # shares of six prompts


def test_an_unknown_behaviour_is_refused_with_the_known_ones(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    with pytest.raises(SelectionError, match="refusal, letters, texts"):
        select(store, tiny_model, tiny_sae, "rudeness", tmp_path)


def test_nothing_is_overwritten(
    exported: Path, store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    before = {file.name: sha256(file) for file in exported.iterdir()}
    with pytest.raises(VectorError, match="already exists"):
        run(store, "refusal", exported, model=tiny_model, sae=tiny_sae, progress=False)
    assert {file.name: sha256(file) for file in exported.iterdir()} == before


def test_another_model_or_sae_than_the_stores_is_refused_by_name(
    store: Store, dense_store: Store, tiny_model: LanguageModel, tiny_sae: SAE, tmp_path: Path
) -> None:
    weights = tiny_model.module.state_dict()
    name = next(iter(weights))
    original = weights[name].clone()
    other_sae = SAE("tiny", tiny_sae.hook_point, tiny_sae.module)
    changed = LanguageModel(tiny_model.name, tiny_model.module, tiny_model.tokenizer)
    try:
        with torch.no_grad():
            weights[name].add_(1.0)
        with pytest.raises(SelectionError, match="model_sha256"):
            run(store, "refusal", tmp_path / "v", model=changed, sae=other_sae, progress=False)
    finally:
        with torch.no_grad():
            weights[name].copy_(original)
    with pytest.raises(SelectionError, match="sae_sha256"):
        run(dense_store, "refusal", tmp_path / "v", model=tiny_model, sae=tiny_sae, progress=False)
    model = replace(tiny_model, module=deepcopy(tiny_model.module))
    model.module.config.rms_norm_eps = 0.5
    with pytest.raises(SelectionError, match="SAE: model_config_sha256 differ"):
        run(store, "refusal", tmp_path / "v", model=model, sae=tiny_sae, progress=False)
    sae = replace(tiny_sae, module=deepcopy(tiny_sae.module))
    config = SimpleNamespace(to_dict=lambda: {"apply_b_dec_to_input": False})
    sae.module.cfg = config  # type: ignore[assignment]
    with pytest.raises(SelectionError, match="SAE: sae_config_sha256 differ"):
        run(store, "refusal", tmp_path / "v", model=tiny_model, sae=sae, progress=False)


def test_the_search_sees_only_what_select_holds(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE, exported: Path, tmp_path: Path
) -> None:
    selection = select(
        store, tiny_model, tiny_sae, "refusal", tmp_path, settings=replace(SETTINGS, trials=0)
    )
    for pool in selection.material.pools.values():
        assert list(pool.sample_ids) == selection.material.splits.select
        matrix = store.matrix("refusal")
        assert len(pool.residual) < len(matrix.residual)
    measured_on = {sample.id for sample in selection.target.ground.tune}
    assert measured_on <= set(selection.material.splits.tune)
    shown = {sample.id for sample in selection.target.ground.examples}
    assert shown <= set(selection.material.splits.select)
    reported_on = {sample.id for sample in selection.held_out.margin.samples}
    assert reported_on == set(selection.material.splits.report)
    np.testing.assert_allclose(
        selection.direction.norm(), selection.direction.double().pow(2).sum().sqrt(), rtol=1e-5
    )
