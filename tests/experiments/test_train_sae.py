"""The recipe trains an SAE that trimtab loads, and a stopped run goes on as if it never had."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments import train_sae as training
from experiments.sae import activations
from experiments.sae.batches import BLOCK_SHARDS, Batches
from experiments.sae.recipe import Recipe, read_recipe
from trimtab.errors import ModelError
from trimtab.model.hook_points import parse_hook_point
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import load_sae
from trimtab.model.sinks import SINK_FACTOR

BARE = 'architecture = "batchtopk"\nhook_point = "x"\nwidth = 9\ntokens = 9999'
POINT = "blocks.1.hook_resid_post"
RECIPE = Recipe(
    architecture="batchtopk",
    hook_point=POINT,
    width=48,
    k=4,
    tokens=4096,
    batch=64,
    warm_up=5,
    dead_after=5,
    context=16,
)
quiet = pytest.mark.filterwarnings("ignore")  # sae_lens' trainer warns about its own dependencies


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows: list[dict[str, object]] = [
        {"text": f"The cat number {i} sat on the mat and looked at the dog."} for i in range(40)
    ]
    rows += [{"messages": [{"role": "user", "content": f"Is {i} even?"}]} for i in range(40)]
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "SHARD_TOKENS", 100)


def test_activations_leave_out_first_tokens_sinks_and_what_a_prefix_repeats(
    tiny_model: LanguageModel,
) -> None:
    one, two = [5, 6, 7, 8, 9], [5, 6, 7, 10, 11]
    alone = activations.collect([two], tiny_model, parse_hook_point(POINT))
    both = activations.collect([one, two], tiny_model, parse_hook_point(POINT))
    assert len(alone) <= 4
    assert len(both) <= 4 + 2
    norms = both.norm(dim=1)
    assert float(norms.max()) < 2 * SINK_FACTOR * float(norms.median())
    assert all(bool((both - row).norm(dim=1).min() < 1e-4) for row in alone[-2:])


def test_a_cache_gives_the_same_activations_and_leaves_the_text_alone(
    tiny_model: LanguageModel, tmp_path: Path
) -> None:
    text = [[i % 50 + j for j in range(12)] for i in range(40)]
    point = parse_hook_point(POINT)
    plain = list(activations.shards(text, tiny_model, point))
    kept = list(activations.shards(text, tiny_model, point, folder=tmp_path))

    def untouched() -> Iterator[list[int]]:
        raise AssertionError("the text was read")
        yield []

    again = list(activations.shards(untouched(), tiny_model, point, folder=tmp_path))
    assert len(plain) > 2
    for a, b, c in zip(plain, kept, again, strict=True):
        assert torch.equal(a, b) and torch.equal(b, c)
    later = list(activations.shards(text, tiny_model, point, start=2, limit=4))
    assert [len(shard) for shard in later] == [len(shard) for shard in plain[2:4]]


def numbered(start: int) -> Iterator[Tensor]:
    for shard in range(start, 2 * BLOCK_SHARDS + 3):
        yield torch.arange(10 * shard, 10 * shard + 10).float()[:, None]


def test_a_pass_gives_every_token_at_most_once_and_the_next_one_in_another_order() -> None:
    batches = Batches(numbered, 5, seed=0)
    first, second = [[next(batches) for _ in range(38)] for _ in range(2)]
    one, two = (torch.cat(b).squeeze(1).tolist() for b in (first, second))
    assert len(set(one)) == len(one) == 190
    assert set(one) == set(two)
    assert one != two


@pytest.mark.parametrize("stop", [0, 3, 16, 20, 38, 45])
def test_a_stream_opened_at_a_position_goes_on_from_there(stop: int) -> None:
    whole = Batches(numbered, 5, seed=1)
    for _ in range(stop):
        next(whole)
    again = Batches(numbered, 5, seed=1, position=whole.position)
    for _ in range(30):
        assert torch.equal(next(whole), next(again))


@quiet
@pytest.mark.parametrize(
    "recipe",
    [RECIPE, replace(RECIPE, architecture="matryoshka_batchtopk", inner_widths=[8, 24])],
    ids=["batchtopk", "matryoshka"],
)
def test_a_trained_sae_loads_as_a_folder_and_knows_where_it_belongs(
    tiny_model: LanguageModel, corpus: Path, tmp_path: Path, recipe: Recipe
) -> None:
    out = tmp_path / "sae"
    training.train_sae(recipe, [corpus], tiny_model, out, None)
    sae = load_sae(str(out), tiny_model)
    assert sae is not None
    assert (sae.d_in, sae.d_sae, str(sae.hook_point)) == (tiny_model.d_model, 48, POINT)
    assert bool(torch.isfinite(sae.W_dec).all())
    assert not out.with_name("sae.unfinished").exists()
    weights = load_file(out / training.WEIGHTS)
    assert {w.dtype for w in weights.values()} == {torch.float16}


@quiet
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    tiny_model: LanguageModel, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    training.train_sae(RECIPE, [corpus], tiny_model, whole, tmp_path / "cache")
    until = training._until

    def interrupted(received: list[int], batches: Batches) -> Iterator[Tensor]:
        for i, batch in enumerate(until(received, batches)):
            if i == 20:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    monkeypatch.setattr(training, "_until", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train_sae(RECIPE, [corpus], tiny_model, stopped, tmp_path / "cache")
    monkeypatch.setattr(training, "_until", until)
    assert not stopped.exists()
    with pytest.raises(ModelError, match="another recipe"):
        training.train_sae(replace(RECIPE, lr=1.0), [corpus], tiny_model, stopped, None)
    training.train_sae(RECIPE, [corpus], tiny_model, stopped, tmp_path / "cache")
    one, two = load_file(whole / training.WEIGHTS), load_file(stopped / training.WEIGHTS)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-3)


def test_a_cache_of_other_activations_is_refused(
    tiny_model: LanguageModel, corpus: Path, tmp_path: Path
) -> None:
    training._claim(tmp_path / "cache", RECIPE, [corpus], tiny_model)
    training._claim(tmp_path / "cache", RECIPE, [corpus], tiny_model)
    with pytest.raises(ModelError, match=r"something else \(context\)"):
        training._claim(tmp_path / "cache", replace(RECIPE, context=32), [corpus], tiny_model)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("width = ", "cannot be read"),
        ("widht = 3", "widht unknown"),
        ("width = 3", "missing"),
        (
            'architecture = "relu"\nhook_point = "x"\nwidth = 1\nk = 1\ntokens = 9999',
            "neither kind",
        ),
        (
            'architecture = "batchtopk"\nhook_point = "x"\nwidth = 9\nk = 1\ntokens = 9999\n'
            "inner_widths = [3]",
            "go together",
        ),
        (f"{BARE}\nk = 10", "k = 10 cannot be"),
        (f"{BARE}\nk = 'many'", "k must be a number"),
        (f"{BARE}\nk = 2\nbatch = 0", "batch = 0 cannot be"),
        (f"{BARE}\nk = 2\nheld_out = 2.0", "held_out = 2.0 cannot be"),
        (
            BARE.replace("batchtopk", "matryoshka_batchtopk") + "\nk = 2\ninner_widths = [12]",
            r"inner_widths = \[12\] cannot be",
        ),
    ],
)
def test_a_recipe_that_says_too_little_or_too_much_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(ModelError, match=says):
        read_recipe(file)


def test_the_recipes_here_can_be_read() -> None:
    files = sorted((Path(training.__file__).parent / "sae" / "recipes").glob("*.toml"))
    assert files
    for file in files:
        read_recipe(file)
