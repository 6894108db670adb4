"""A stored sample, or any text, token by token with its strongest features."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from trimtab.cli import app
from trimtab.errors import StoreError
from trimtab.model.features.by_token import strongest_features
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render_prompt
from trimtab.model.sae import SAE
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build, set_descriptions
from trimtab.store.reading.by_token import stored_features


def tokens(*arguments: object) -> Any:
    result = CliRunner().invoke(app, ["tokens", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def test_every_token_of_a_sample_has_its_strongest_activations(store: Store) -> None:
    rows = stored_features(store, "pair-3", top=4)
    expected = store.sql(
        "FROM tokens WHERE sample_id = 'pair-3' ORDER BY position, side"
    ).to_dicts()
    key = ("side", "position", "text")
    found = [(row["side"], row["position"], row["token"]) for row in rows]
    assert sorted(found) == sorted(tuple(one[name] for name in key) for one in expected)
    sides = [row["side"] for row in rows]
    assert list(dict.fromkeys(sides)) == ["prompt", "positive", "negative"]
    active = store.sql("FROM activations WHERE sample_id = 'pair-3'")
    for row in rows:
        here = active.filter(
            (pl.col("side") == row["side"]) & (pl.col("position") == row["position"])
        ).sort("value", "feature", descending=[True, False])
        strongest = here.head(4).select("feature", "value").to_dicts()
        assert row["features"] == strongest
        assert bool(strongest) == (row["position"] > 0)


def test_a_sample_that_is_not_one_is_refused(
    tmp_path: Path,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    make_pairs: Callable[..., list[Sample]],
) -> None:
    long = Sample("long", "refusal", ({"role": "user", "content": "now " * 99},), "a", "b")
    samples = [*make_pairs(2), *make_pairs(2, "tone"), long]
    store = build(tmp_path / "s", samples, tiny_model, tiny_sae, max_tokens=50, progress=False)
    with pytest.raises(StoreError, match="several behaviours; name one: refusal, tone"):
        stored_features(store, "pair-1", top=1)
    assert stored_features(store, "pair-1", behavior="tone", top=1)
    with pytest.raises(StoreError, match="no sample 'pair-9'"):
        stored_features(store, "pair-9", top=1)
    with pytest.raises(StoreError, match=r"'long' of .* has no tokens: it is prompt_too_long"):
        stored_features(store, "long", top=1)


def test_the_command_shows_a_stored_sample_with_the_stores_labels_and_no_model(
    tmp_path: Path, store: Store, descriptions: Callable[..., pl.DataFrame]
) -> None:
    path = shutil.copytree(store.path, tmp_path / "store")
    set_descriptions(path, descriptions(48, " [b]joy[/b]"))
    found = tokens("--of", path, "--sample", "pair-0", "--top", 1, "--json")
    strongest = found[-1]["features"][0]
    assert strongest["label"] == f"label {strongest['feature']} of [b]joy[/b]"
    assert [row["token"] for row in found] == [
        row["token"] for row in stored_features(store, "pair-0", top=1)
    ]
    code = (
        "import sys; from trimtab.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: print(sorted({'torch', 'transformers', 'sae_lens'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    for arguments in (
        ["tokens", "--of", str(path), "--sample", "pair-0"],
        ["labels", "export", str(path), "--format", "delphi", "--out", str(tmp_path / "out")],
        ["labels", "import", str(path), str(tmp_path / "out")],
    ):
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "120"},
        )
        assert result.stdout.splitlines()[-1] == "[]", result.stderr
        if "--sample" in arguments:
            assert "[b]joy[/b]" in result.stdout
            assert "negative" in result.stdout


def test_the_command_runs_a_text_as_the_store_did(
    store: Store,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def load_model(name: str, **_: object) -> LanguageModel:
        asked.append(name)
        return tiny_model

    def load_sae(name: str, _: object) -> SAE:
        asked.append(name)
        return tiny_sae

    monkeypatch.setattr("trimtab.model.language_model.load_model", load_model)
    monkeypatch.setattr("trimtab.model.sae.load_sae", load_sae)
    text = store.samples("refusal")[2].messages[0]["content"]
    found = tokens(text, "--chat", "--of", store.path, "--json", "--top", 2)
    assert asked == ["tiny-llama", "tiny"]
    prompt = [row for row in stored_features(store, "pair-2", top=2) if row["side"] == "prompt"]
    assert [row["token"] for row in found] == [row["token"] for row in prompt]
    compared = 0
    for one, stored in zip(found, prompt, strict=True):
        assert not one["features"] or [f["feature"] for f in one["features"]] == [
            f["feature"] for f in stored["features"]
        ]
        for mine, theirs in zip(one["features"], stored["features"], strict=False):
            assert mine["value"] == pytest.approx(theirs["value"], rel=1e-4)
            compared += 1
    assert compared > len(prompt)

    raw = tokens("The quick brown fox", "--sae", "tiny", "--model", "another")
    assert "quick" in raw
    assert asked[-2:] == ["another", "tiny"]
    weights = SAE("other weights", tiny_sae.hook_point, type(tiny_sae.module)(16, 48))
    weights.W_dec.data += 1
    config = replace(tiny_sae, spec="another config", module=deepcopy(tiny_sae.module))
    rules = SimpleNamespace(to_dict=lambda: {"apply_b_dec_to_input": False})
    config.module.cfg = rules  # type: ignore[assignment]
    for other in (weights, config):
        monkeypatch.setattr("trimtab.model.sae.load_sae", lambda *_, other=other: other)
        result = CliRunner().invoke(app, ["tokens", "Hello", "--of", str(store.path)])
        assert result.exit_code == 1
        assert f"{other.spec} is not the store's SAE" in result.stderr
    monkeypatch.setattr("trimtab.model.sae.load_sae", lambda *_: None)
    result = CliRunner().invoke(app, ["tokens", "Hello", "--sae", "none"])
    assert "without an SAE there are no features" in result.stderr


def test_the_first_token_has_no_feature_and_the_rest_their_strongest(
    tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    ids = render_prompt(tiny_model, [{"role": "user", "content": "I would rather not"}], chat=False)
    every = strongest_features(tiny_model, tiny_sae, ids, top=48)
    assert [row["position"] for row in every] == list(range(len(ids)))
    assert "".join(row["token"] for row in every) == "I would rather not"
    assert every[0]["features"] == []
    assert any(row["features"] for row in every)
    for row, two in zip(every, strongest_features(tiny_model, tiny_sae, ids, top=2), strict=True):
        values = [one["value"] for one in row["features"]]
        assert values == sorted(values, reverse=True)
        assert all(value > 0 for value in values)
        assert two["features"] == row["features"][:2]
