"""The report renders from a folder alone, whatever is missing in it, and trusts no text."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trimtab.errors import VectorError
from trimtab.selector.report import render_report, reply_to_show
from trimtab.selector.report.aim import aimed
from trimtab.selector.report.contents import points, side_by_side, strongest, surrogates

N_SAMPLES, KEPT, FEATURES = 40, 3, (7, 1042)
INT = pl.Int64
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
CONTROLS = (
    "unsteered", "dense_mean_difference", "full_sae", "random_samples", "same_features",
    "random_features", "random_dictionary", "random_direction", "lexical", "prompting",
)  # fmt: skip


def some(value: float, width: float = 0.1) -> dict[str, Any]:
    return {"value": value, "low": value - width, "high": value + width}


def none(reason: str) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "reason": reason}


def a_card(*, sae: bool, questions: int, reliable: bool) -> dict[str, Any]:
    rate = some(0.6) if questions else none("nothing was counted")
    controls: dict[str, Any] = {
        name: {"effect": some(0.1 * i), "behavior_rate": rate} for i, name in enumerate(CONTROLS)
    }
    controls["lexical"] = dict.fromkeys(("effect", "behavior_rate"), none("no first word differs"))
    beyond = {name: some(0.2) if questions else none("no questions") for name in CONTROLS}
    del beyond["lexical"]
    if not sae:
        for name in ("full_sae", "same_features", "random_features", "random_dictionary"):
            controls[name] = dict.fromkeys(("effect", "behavior_rate"), none("the run had no SAE"))
            del beyond[name]
    ids = [f"s{i:02}" for i in range(N_SAMPLES)]
    return {
        "behavior": "warmth",
        "model": "tiny-llama",
        "sae": "default" if sae else "none",
        "hook_point": "blocks.15.hook_resid_post",
        "layer_convention": "layers count from 0, embeddings not counted",
        "operation": "add",
        "positions": "prompt_end",
        "pooling": "mean",
        "multiplier": 6.5,
        "unit_of_strength": "times the stored vector",
        "norm": 3.0,
        "damage": {
            "budget": 0.1, "kl_mean": 0.1003, "kl_p95": 0.31, "unit": "nats per token",
            "curve": [{"multiplier": m, "kl_mean": 0.0024 * m * m} for m in (3.0, 6.0, 6.5)],
        },
        "samples": {"kept": KEPT, "of": N_SAMPLES // 2},
        "features": {"kept": len(FEATURES) if sae else None, "of": 310 if sae else None},
        "held_out": {
            "effect": some(0.4), "behavior_rate": rate, "faithfulness": some(0.9),
            "faithfulness_behavior_rate": none("the interval of the dense rate includes zero"),
            "n_pairs": 10, "n_questions": questions,
        },
        "controls": controls,
        "behavior_rate_beyond": beyond,
        "anti_steerable_fraction": {"before": some(0.2), "after": some(0.15)},
        "target": {
            "name": "dataset", "trusted": "dataset",
            "rank_correlation": some(0.8) if reliable else none("nothing can judge"),
            "ceiling": some(0.9) if reliable else none("nothing can judge"),
            "surrogates": {"dataset": some(0.8), "own_replies": some(-1.0)} if reliable else {},
            "mixture": None,
            "history": [
                {"at": at, "vectors": n, "target": target, "why": why,
                 "own_replies_under": "v0",
                 "rank_correlation": {"dataset": 0.8, "own_replies": None}}
                for at, n, target, why in (
                    ("start", 3, "own_replies", None),
                    ("after pruning", 4, "dataset", "own replies have come apart"),
                )
            ] if reliable else [],
            "panel": [
                {"vector": f"v{i}", "at": "start", "behavior_rate": i / 4, "dataset": i**2,
                 "own_replies": -i}
                for i in range(4)
            ] if reliable else [],
        },
        "finalists": [
            {"origin": "trial 3", "samples": 3, "features": 2 if sae else None,
             "effect": 0.4, "behavior_rate": 0.7 if reliable else None,
             "holds": 0.83 if reliable else None},
        ],
        "choice": {"confidence": 0.8, "tolerance": 0.95, "prompts": 60 if reliable else 0},
        "strongest": None,
        "draws_as_good": {"random_samples": {"of": 20, "effect": 1, "behavior_rate": 3}},
        "judge": {"kind": "words", "accuracy": 0.93 if reliable else 0.61, "reliable": reliable,
                  "trained_on": 60},
        "settings": {"seed": 0, "budget": 0.1, "tolerance": 0.95, "trials": 8, "target": None,
                     "poolings": ["mean", "last"]},
        "splits": {"select": ids[:20], "tune": ids[20:30], "report": ids[30:]},
        "seeds": {"split": 0, "search": 0},
        "data_sha256": "d" * 64,
        "fingerprint": {"model": "tiny-llama", "prompt_form": "chat", "system_prompt": "default"},
        "store_content": "c" * 64,
        "versions": {"trimtab": "0.1.0"},
        "checksums": {"samples.parquet": "a" * 64},
        "seconds": 90.0,
        "created_at": "2026-11-21T22:00:00+00:00",
    }  # fmt: skip


def with_judges(folder: Path, *, text: str = "Yes.", llm: bool = False) -> Path:
    """Give an exported folder what runs state since there are two judges and fluency."""
    card = json.loads((folder / "card.json").read_text())
    for outcome in (card["held_out"], *card["controls"].values()):
        outcome |= {"nats": some(1.75), "repetition": 0.375}
    card["judge"] |= {
        "name": "text classifier by words", "way_out": None, "n_replies": 80, "unjudged": 0,
        "second": {
            "name": "text classifier by reading", "accuracy": 0.88, "reliable": True,
            "n_replies": 80, "agreement": some(0.85), "kappa": 0.64,
            "rates": {name: {"judge": some(0.6), "second": some(0.52)}
                      for name in ("minimal", "dense_mean_difference", "unsteered")},
        },
    }  # fmt: skip
    if llm:
        card["judge"] |= {
            "name": f"language model {text} at localhost", "kind": "llm", "unjudged": 7,
            "criterion": f"{text} criterion", "measured_on": 40,
        }  # fmt: skip
        replies = pl.read_parquet(folder / "replies.parquet")
        shown = [[True, False, None][i % 3] for i in range(replies.height)]
        replies.with_columns(shown=pl.Series(shown, dtype=pl.Boolean)).write_parquet(
            folder / "replies.parquet"
        )
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    rows = [
        {"vector": name, "draw": 0, "question": f"{text} asked {i}", "reply": f"{text} {name} {i}",
         "judge": i % 2 == 0, "second": True, "prompt": None, "answer": None}
        for name in ("minimal", "unsteered", "random_samples", "random_features") for i in range(9)
    ]  # fmt: skip
    types = {"prompt": pl.String, "answer": pl.String}
    pl.DataFrame(rows, schema_overrides=types).write_parquet(folder / "judged.parquet")
    return folder


def export(
    folder: Path, *, sae: bool = True, questions: int = 8, reliable: bool = True, text: str = "Yes."
) -> Path:
    """Write a folder of the exported schemas without a model or a selection."""
    folder.mkdir()
    card = a_card(sae=sae, questions=questions, reliable=reliable)
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    ids = [f"s{i:02}" for i in range(N_SAMPLES)]
    kept = ids[:KEPT]
    selectable = N_SAMPLES // 2
    tables = {
        "samples": pl.DataFrame(
            [
                {
                    "sample_id": id, "group": f"g{i}",
                    "split": "select" if i < selectable else "report", "kept": id in kept,
                    "weight": 1 / KEPT if id in kept else 0.0,
                    "prompt": f"{text} prompt {i}", "positive": f"{text} positive {i}",
                    "negative": None if i % 5 == 4 else f"{text} negative {i}",
                    "usefulness": (9.5 - i) / 100 if i < selectable else None,
                    "cosine_to_gradient": 0.1 if i < selectable else None, "direction": None,
                }
                for i, id in enumerate(ids)
            ],
            schema_overrides={"direction": pl.List(pl.Float32)}, infer_schema_length=None,
        ),
        "receipt": pl.DataFrame(
            {
                "sample_id": kept * 2,
                "feature": pl.Series([f if sae else None for f in FEATURES * KEPT], dtype=INT),
                "share": [0.5] * 6, "contribution": [1.0, 0.8, 0.7, 0.4, 0.3, -0.2],
            }
        ),
        "curves": pl.DataFrame(
            [
                {"of": of, "kept": k, "effect": 0.1 * k, "faithfulness": 0.9 + k / 100}
                for of in (("samples", "features") if sae else ("samples",)) for k in (20, 12, 7, 4)
            ]
        ),
        "pareto": pl.DataFrame(
            {
                "method": ["pruning", "search", "search", "random"],
                "origin": ["pruned to 12 samples", "trial 0", "trial 3", "random"],
                "pooling": ["mean"] * 4, "samples": [12, 5, 3, 3],
                "features": pl.Series([20, 4, 2, 2] if sae else [None] * 4, dtype=pl.Int64),
                "effect": [0.5, 0.3, 0.4, 0.1], "behavior_rate": [None, None, 0.7, None],
                "front": [True, False, True, False], "chosen": [False, False, True, False],
                "strongest": [True, False, False, False],
            }
        ),
        "replies": pl.DataFrame(
            [
                {"vector": name, "question": f"{text} question {i}", "reply": f"{text} {name} {i}",
                 "probability": 0.5}
                for name in ("minimal", "unsteered", "dense_mean_difference", "prompting")
                for i in range(questions)
            ],
            schema={"vector": pl.String, "question": pl.String, "reply": pl.String,
                    "probability": pl.Float64},
        ),
    }  # fmt: skip
    if sae:
        tables["features"] = pl.DataFrame(
            {
                "feature": list(FEATURES), "coefficient": [1.0, 2.5], "mean_difference": [0.7, 0.3],
                "contribution": [2.5, 0.5], "cohens_d": [1.2, None], "gradient_along": [0.1, 0.2],
                "tokens": [[" warm", "\n", text], []], "direction": [[0.0, 1.0], [1.0, 0.0]],
            }
        )  # fmt: skip
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    return folder


class Page(HTMLParser):
    """Reads a page: its text, its tags, and whether every tag is closed in order."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rendered(folder: Path) -> Page:
    return Page(render_report(folder).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("sae", "questions", "reliable"),
    [
        (True, 8, True),
        (True, 0, True),
        (True, 8, False),
        (False, 8, True),
        (False, 1, True),
        (False, 0, False),
    ],
)
def test_every_kind_of_run_renders_as_well_formed_html(
    tmp_path: Path, sae: bool, questions: int, reliable: bool
) -> None:
    page = rendered(export(tmp_path / "v", sae=sae, questions=questions, reliable=reliable))
    assert "None" not in page.text.replace("None pulls", "")
    assert "nan" not in page.text.split()
    assert "no first word differs" in page.text  # a missing control shows its reason
    assert ("the run had no SAE" in page.text) == (not sae)
    assert ("No held-out question was asked" in page.text) == (questions == 0)


def test_fluency_stands_in_the_table_of_controls(tmp_path: Path) -> None:
    assert "nats per token</th>" not in render_report(export(tmp_path / "v")).read_text()
    page = rendered(with_judges(export(tmp_path / "w")))
    assert page.text.count("1.75 [1.65, 1.85]") == 1 + len(CONTROLS) - 1  # one was not measured
    assert page.text.count(" 0.38 ") >= len(CONTROLS)


def test_a_second_judges_agreement_rates_and_disagreements_are_shown(tmp_path: Path) -> None:
    assert "Two judges" not in rendered(export(tmp_path / "v")).text
    text = rendered(with_judges(export(tmp_path / "w"))).text
    assert "The second is a text classifier by reading (accuracy 0.88)." in text
    assert "Of 80 replies" in text
    assert "0.85 [0.75, 0.95] alike" in text
    assert "kappa, which corrects for agreement by chance, is 0.64." in text
    assert text.count("0.52 [0.42") == 3
    shown = re.findall(r"(\w+): judge no, second yes Yes\. asked (\d)", text)
    assert shown == [(n, i) for n in ("vector", "unsteered", "samples") for i in "13"]


def test_a_language_models_verdicts_stand_in_place_of_probabilities(tmp_path: Path) -> None:
    text = rendered(with_judges(export(tmp_path / "v"), text="Mod", llm=True)).text
    assert "language model Mod at localhost" in text
    assert "left 7 of 80 replies unjudged" in text
    assert "minimal vector, yes" in text
    assert "unsteered, unjudged" in text
    assert "asked for: Mod criterion" in text
    assert "judge’s probability" not in text


def test_hostile_judges_stay_texts(tmp_path: Path) -> None:
    page = rendered(with_judges(export(tmp_path / "v"), text=HOSTILE, llm=True))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 8


def test_an_unreliable_judge_is_told_with_the_way_out(tmp_path: Path) -> None:
    folder = with_judges(export(tmp_path / "v", reliable=False))
    card = json.loads((folder / "card.json").read_text())
    card["judge"]["way_out"] = "ask somebody else"
    (folder / "card.json").write_text(json.dumps(card))
    text = rendered(folder).text
    assert "means nothing. For a rate you can believe, ask somebody else." in text
    assert "or that it beats the controls there; ask somebody else." in text


def a_learning_curve(*, fitted: bool = True) -> dict[str, Any]:
    needed = some(12.3, 4) if fitted else none("the effect of all samples is not clear of zero")
    return {
        "share": 0.95,
        "points": [{"n": n, "draws": 4, "effect": some(0.1 * n)} for n in (1, 2, 4, 8)],
        "asymptote": some(0.9) if fitted else needed,
        "noise": 4.0 if fitted else None,
        "misfit": 0.02 if fitted else None,
        "needed": needed,
        "needed_of_asymptote": needed,
    }


@pytest.mark.parametrize("fitted", [True, False])
def test_the_learning_curve_is_drawn_where_the_card_has_one(tmp_path: Path, fitted: bool) -> None:
    folder = export(tmp_path / "v")
    without = rendered(folder)
    card = json.loads((folder / "card.json").read_text())
    card["learning_curve"] = a_learning_curve(fitted=fitted)
    (folder / "card.json").write_text(json.dumps(card))
    page = rendered(folder)
    figures = [sum(tag == "svg" for tag, _ in one.tags) for one in (without, page)]
    assert figures[1] == figures[0] + 1
    assert ("About 13 [9, 17] random samples" in page.text.replace("\u00a0", " ")) == fitted
    assert ("cannot be said" in page.text) == (not fitted)


def test_the_page_asks_the_network_for_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page = rendered(export(tmp_path / "v"))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert (value or "").startswith("#")
    css = render_report(tmp_path / "v").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)", css)
    assert "default-src 'none'" in css


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    folder = export(tmp_path / "v", text=HOSTILE)
    card = json.loads((folder / "card.json").read_text())
    card["behavior"] = card["model"] = HOSTILE
    card["target"]["panel"][0]["vector"] = HOSTILE
    (folder / "card.json").write_text(json.dumps(card))
    page = rendered(folder)
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") > 20


def test_texts_that_unicode_forbids_do_not_stop_it(tmp_path: Path) -> None:
    folder = export(tmp_path / "v")
    card = (folder / "card.json").read_text().replace('"warmth"', '"half a pair: \\ud83d"')
    (folder / "card.json").write_text(card)
    assert "half a pair: ?" in rendered(folder).text


def test_ids_are_unique_and_every_reference_inside_a_figure_resolves(tmp_path: Path) -> None:
    page = render_report(export(tmp_path / "v")).read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_figures_leave_every_colour_to_the_page(tmp_path: Path) -> None:
    page = render_report(export(tmp_path / "v")).read_text(encoding="utf-8")
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(figures) == 10
    for figure in figures:
        assert set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", figure)) <= {
            "none", "var(--ink)", "var(--muted)", "var(--rule)", "var(--accent)", "var(--paper)",
        }  # fmt: skip


def test_rendering_again_gives_the_same_bytes_and_leaves_the_other_files_alone(
    tmp_path: Path,
) -> None:
    folder = export(tmp_path / "v")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    first = render_report(folder).read_bytes()
    assert render_report(folder).read_bytes() == first
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert after.pop("report.html") == first
    assert after == before


def test_replies_to_one_question_stand_side_by_side_and_the_first_is_the_one_to_show(
    tmp_path: Path,
) -> None:
    folder = export(tmp_path / "v")
    shown = side_by_side(pl.read_parquet(folder / "replies.parquet"))
    assert [question for question, _ in shown] == [f"Yes. question {i}" for i in range(8)]
    for i, (_, rows) in enumerate(shown):
        assert [row["reply"] for row in rows] == [
            f"Yes. {name} {i}" for name in ("minimal", "unsteered", "dense_mean_difference")
        ]
    assert reply_to_show(folder) == {
        "question": "Yes. question 0",
        "steered": "Yes. minimal 0",
        "unsteered": "Yes. unsteered 0",
    }
    assert reply_to_show(export(tmp_path / "w", questions=0)) is None


def test_samples_for_are_the_most_useful_and_samples_against_pull_the_wrong_way(
    tmp_path: Path,
) -> None:
    samples = pl.read_parquet(export(tmp_path / "v") / "samples.parquet")
    best, worst = strongest(samples)
    assert [row["sample_id"] for row in best] == ["s00", "s01", "s02", "s03", "s04", "s05"]
    assert [row["sample_id"] for row in worst] == ["s19", "s18", "s17", "s16", "s15", "s14"]
    best, worst = strongest(samples.with_columns(pl.col("usefulness").abs()))
    assert worst == []


def test_what_the_run_aimed_at_is_said_with_its_rank_correlation_and_its_changes(
    tmp_path: Path,
) -> None:
    folder = export(tmp_path / "v")
    card = json.loads((folder / "card.json").read_text())
    dataset, own_replies = surrogates(card)
    assert (dataset.chosen, own_replies.chosen) == (True, False)
    assert dataset.rank_correlation.value == 0.8
    said = aimed(card)
    assert "the margin on the samples’ completions, whose rank correlation" in said
    assert "over 4 unlike vectors, across prompts, is 0.80" in said
    assert "(the best of " in said
    assert "reliability of the rates themselves is 0.90" in said
    assert "changed after pruning: own replies have come apart." in said
    assert "as requested" not in said
    page = rendered(folder).text
    assert "after pruning" in page
    assert "the margin on the samples’ completions, whose rank correlation" in page


def test_a_rank_correlation_that_is_low_or_unknown_is_said_to_be_so() -> None:
    unknown = a_card(sae=True, questions=8, reliable=False)
    assert "; nothing can judge." in aimed(unknown)
    low = a_card(sae=True, questions=8, reliable=True)
    low["target"]["rank_correlation"] = none("") | {"value": 0.2, "low": -0.1, "high": 0.4}
    assert "too low to rely on" in aimed(low)
    low["target"]["name"], low["settings"]["target"] = "behavior_rate", "behavior_rate"
    said = aimed(low)
    assert "too low" not in said
    assert "the behaviour rate itself, as requested, along the gradient of the margin" in said


def test_points_are_sized_by_the_rows_of_their_receipt(tmp_path: Path) -> None:
    with_sae = points(pl.read_parquet(export(tmp_path / "v") / "pareto.parquet"))
    assert [point.size for point in with_sae] == [240, 20, 6, 6]
    assert [point.chosen for point in with_sae] == [False, False, True, False]
    dense = points(pl.read_parquet(export(tmp_path / "w", sae=False) / "pareto.parquet"))
    assert [point.size for point in dense] == [12, 5, 3, 3]


def test_the_surface_is_drawn_with_every_method_that_was_measured(tmp_path: Path) -> None:
    page = rendered(export(tmp_path / "v")).text
    for method in ("pruning", "search", "random", "chosen"):
        assert method in page
    assert "The Pareto front over samples and features" in page
    assert "over samples and features" not in rendered(export(tmp_path / "w", sae=False)).text


def test_a_random_control_says_how_many_of_its_draws_are_as_good(tmp_path: Path) -> None:
    assert rendered(export(tmp_path / "v")).text.count("3 of 20 draws as good") == 1
    assert "draws as good" not in rendered(export(tmp_path / "w", questions=0)).text


def test_the_strongest_point_is_told_of_where_it_is_another(tmp_path: Path) -> None:
    folder = export(tmp_path / "v")
    assert "The strongest finalist" not in rendered(folder).text
    card = json.loads((folder / "card.json").read_text())
    card["strongest"] = {
        "origin": f"gates at penalty 0.01 {HOSTILE}", "behavior_rate": some(0.9, 0.05),
        "behavior_rate_beyond_dense": some(0.2, 0.1), "effect": some(0.7, 0.1),
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    page = rendered(folder)
    assert "The strongest finalist, gates at penalty 0.01" in page.text
    assert "0.90 [0.85, 0.95]" in page.text
    assert not {"script", "img"} & {tag for tag, _ in page.tags}


def test_the_receipt_says_what_it_sums_to(tmp_path: Path) -> None:
    text = rendered(export(tmp_path / "v")).text
    assert "All 6 rows sum to 3.0000; the vector’s length is 3.0000" in text


@pytest.mark.parametrize(
    ("hook_point", "possible"),
    [
        ("blocks.15.hook_resid_post", True),
        ("blocks.0.hook_resid_post", False),
        ("blocks.2.hook_resid_pre", True),
        ("blocks.3.hook_mlp_out", False),
    ],
)
def test_llama_cpp_is_only_offered_where_it_can_follow(
    tmp_path: Path, hook_point: str, possible: bool
) -> None:
    folder = export(tmp_path / "v")
    card = json.loads((folder / "card.json").read_text())
    card["hook_point"] = hook_point
    (folder / "card.json").write_text(json.dumps(card))
    text = rendered(folder).text
    assert ("--control-vector" in text) == possible
    assert ("Not possible: " in text) != possible


def test_damage_on_chats_stands_beside_every_vector_that_it_was_measured_of(
    tmp_path: Path,
) -> None:
    folder = export(tmp_path / "run")
    without = Page(render_report(folder).read_text(encoding="utf-8"))
    assert "neutral chats" not in "".join(without.words)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["held_out"]["chats"] = {"mean": 0.0817, "p95": 0.2917}
    card["controls"]["dense_mean_difference"]["chats"] = {"mean": 0.1517, "p95": 0.3517}
    card["controls"]["prompting"]["chats"] = None
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    page = Page(render_report(folder).read_text(encoding="utf-8"))
    words = [word for word in page.words if word.strip()]
    at = next(i for i, word in enumerate(words) if "neutral chats" in word)
    assert words[at + 4 : at + 10] == [
        "minimal vector", "0.082", "0.292", "dense vector", "0.152", "0.352",
    ]  # fmt: skip


def test_labels_of_features_take_the_place_of_their_tokens(tmp_path: Path) -> None:
    folder = export(tmp_path / "v")
    features = pl.read_parquet(folder / "features.parquet")
    assert "Until features have labels" in rendered(folder).text
    features.with_columns(label=pl.Series(["gratitude", "weather"])).write_parquet(
        folder / "features.parquet"
    )
    text = rendered(folder).text
    assert "1042 weather" in text
    assert "Until features have labels" not in text


def described(folder: Path, text: str, source: str = "automatic") -> Path:
    """Give the features of an exported folder descriptions that say `text`."""
    features = pl.read_parquet(folder / "features.parquet")
    context = {"before": "so ", "token": text, "after": " it", "value": 2.0, "source": "book"}
    features.with_columns(
        label=pl.Series([f"label {text}", None]),
        label_source=pl.Series([source, None]),
        promotes=pl.Series([[f" up {text}"], None]),
        suppresses=pl.Series([[f" down {text}"], None]),
        contexts=pl.Series([[context] * 3, None]),
    ).write_parquet(folder / "features.parquet")
    return folder


def test_a_described_feature_shows_label_source_tokens_and_contexts(tmp_path: Path) -> None:
    page = rendered(described(export(tmp_path / "v"), "joy", source="neuronpedia"))
    assert "7 label joy neuronpedia" in page.text
    assert "promotes up joy" in page.text
    assert "suppresses down joy" in page.text
    assert page.text.count("so joy it") == 2  # a context or two, not all of them
    assert sum(tag == "mark" for tag, _ in page.tags) == 2
    assert page.text.count("label joy") == 1 + KEPT  # in the receipt's rows, too
    assert "1042 fires on no stored token" in page.text  # this one has no label


def test_hostile_descriptions_stay_texts(tmp_path: Path) -> None:
    page = rendered(described(export(tmp_path / "v"), HOSTILE + "\x1b[31m\u202e", source=HOSTILE))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 6
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text


def test_a_folder_that_is_no_exported_vector_is_named(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match=r"is not an exported vector"):
        render_report(tmp_path)
    folder = export(tmp_path / "v")
    (folder / "replies.parquet").write_bytes(b"PAR1 and nonsense")
    with pytest.raises(VectorError, match=r"replies\.parquet cannot be read"):
        render_report(folder)
    (folder / "replies.parquet").unlink()
    with pytest.raises(VectorError, match=r"lacks replies\.parquet"):
        render_report(folder)
    assert not (folder / "report.html").exists()


def test_a_card_of_another_version_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    folder = export(tmp_path / "v")
    card = json.loads((folder / "card.json").read_text())
    del card["judge"]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(VectorError, match=r"lacks .*'judge'.*another version"):
        render_report(folder)


def test_rendering_needs_no_torch(tmp_path: Path) -> None:
    folder = export(tmp_path / "v")
    code = (
        "import sys; from pathlib import Path; from trimtab.selector.report import render_report; "
        "render_report(Path(sys.argv[1])); "
        "print(sorted({'torch', 'transformers', 'sae_lens', 'matplotlib.pyplot'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
