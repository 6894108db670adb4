from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.model.hook_points import HookPoint, parse_hook_point
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build

Pairs = Callable[..., list[Sample]]


def uncached(model: LanguageModel, sample: Sample, text: str, hook_point: HookPoint) -> Tensor:
    """Activations `(completion tokens, d_model)` of one plain forward pass without any padding."""
    rendered = render(model, sample.messages, text)
    ids = torch.tensor([rendered.ids])
    activations = residuals(model, ids, torch.ones_like(ids), [hook_point])[hook_point]
    return activations[0, rendered.n_prompt :].float()


@pytest.mark.parametrize(
    "hook_point", ["blocks.0.hook_resid_pre", "blocks.1.hook_mlp_out", "blocks.3.hook_resid_post"]
)
def test_continuing_from_the_shared_prompt_equals_a_plain_forward_pass(
    tmp_path: Path, family_model: LanguageModel, make_pairs: Pairs, hook_point: str
) -> None:
    samples = make_pairs(5)
    store = build(tmp_path, samples, family_model, None, hook_point=hook_point, progress=False)
    rows = store.sql(
        "SELECT sample, side, mean, last FROM residuals JOIN samples USING (sample_id)"
    )
    assert rows.height == 10
    for index, side, mean, last in rows.iter_rows():
        text = getattr(samples[index], side)
        plain = uncached(family_model, samples[index], text, parse_hook_point(hook_point))
        np.testing.assert_allclose(mean, plain.mean(dim=0), atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(last, plain[-1], atol=1e-4, rtol=1e-4)


def test_batches_change_nothing_but_rounding(
    tmp_path: Path, tiny_model: LanguageModel, tiny_sae: SAE, make_pairs: Pairs
) -> None:
    alone, together = (
        build(
            tmp_path / str(tokens),
            make_pairs(8),
            tiny_model,
            tiny_sae,
            batch_tokens=tokens,
            progress=False,
        ).matrix("refusal")
        for tokens in (1, 100_000)
    )
    torch.testing.assert_close(alone.residual, together.residual, atol=1e-4, rtol=1e-4)
    assert alone.features is not None
    torch.testing.assert_close(alone.features, together.features, atol=1e-4, rtol=1e-4)


def test_tokens_are_those_of_the_model_and_pads_are_not_stored(
    store: Store, tiny_model: LanguageModel
) -> None:
    for sample in store.samples():
        for side, text in sample.sides:
            rendered = render(tiny_model, sample.messages, text)
            rows = store.sql(
                "SELECT position, token_id, text FROM tokens WHERE sample_id = ?"
                " AND side IN ('prompt', ?) ORDER BY position",
                [sample.id, side],
            )
            assert rows["token_id"].to_list() == list(rendered.ids)
            assert rows["position"].to_list() == list(range(len(rendered.ids)))
            assert "".join(rows["text"]).endswith(text)
    counts = store.sql("SELECT (SELECT sum(n_tokens) FROM samples), (SELECT count(*) FROM tokens)")
    assert len(set(counts.row(0))) == 1


def test_activations_are_the_saes_on_every_token_but_the_first(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    sample = store.samples("refusal")[3]
    for side, text in sample.sides:
        rendered = render(tiny_model, sample.messages, text)
        ids = torch.tensor([rendered.ids])
        point = tiny_sae.hook_point
        x = residuals(tiny_model, ids, torch.ones_like(ids), [point])[point][0]
        expected = tiny_sae.encode(x)
        expected[0] = 0
        found = torch.zeros_like(expected)
        rows = store.sql(
            "SELECT position, feature, value FROM activations WHERE sample_id = ?"
            " AND side IN ('prompt', ?)",
            [sample.id, side],
        )
        found[rows["position"].to_list(), rows["feature"].to_list()] = torch.tensor(
            rows["value"].to_list()
        )
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooled_features_are_the_pooling_of_the_stored_activations(
    tmp_path: Path,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    make_pairs: Pairs,
    dtype: torch.dtype,
) -> None:
    model = replace(tiny_model, module=deepcopy(tiny_model.module).to(dtype))
    store = build(tmp_path, make_pairs(4), model, tiny_sae, progress=False)
    stored = {"torch.float32": "float32", "torch.bfloat16": "bfloat16"}[str(dtype)]
    assert store.fingerprint["value_dtype"] == stored
    dense: dict[tuple[str, str], Tensor] = {}
    spans = store.sql(
        "SELECT sample_id, side, min(position), max(position) FROM tokens"
        " WHERE side <> 'prompt' GROUP BY sample_id, side"
    )
    for sample_id, side, first, last in spans.iter_rows():
        rows = store.sql(
            "SELECT position, feature, value FROM activations WHERE sample_id = ? AND side = ?",
            [sample_id, side],
        )
        values = torch.zeros(last - first + 1, tiny_sae.d_sae)
        values[(rows["position"] - first).to_list(), rows["feature"].to_list()] = torch.tensor(
            rows["value"].to_list()
        )
        dense[sample_id, side] = values
    pooled = store.sql(
        "SELECT sample_id, side, feature, mean, last, max, n_active FROM pooled"
        " WHERE side <> 'prompt'"
    )
    expected_rows = sum(int((values != 0).any(dim=0).sum()) for values in dense.values())
    assert pooled.height == expected_rows > 20
    for sample_id, side, feature, mean, last, most, n_active in pooled.iter_rows():
        column = dense[sample_id, side][:, feature]
        assert mean == pytest.approx(column.mean().item(), rel=1e-5)
        assert (last, most) == (column[-1].item(), column.max().item())
        assert n_active == int((column != 0).sum())
    assert store.verify() == []


def test_decoded_features_bias_and_error_add_up_to_the_residual(
    store: Store, tiny_model: LanguageModel, tiny_sae: SAE
) -> None:
    for sample in store.samples("refusal"):
        for side, text in sample.sides:
            x = uncached(tiny_model, sample, text, tiny_sae.hook_point)
            error = (x - tiny_sae.decode(tiny_sae.encode(x))).mean(dim=0)
            where = "FROM {} WHERE sample_id = ? AND side = ?"
            rows = store.sql(f"SELECT feature, mean {where.format('pooled')}", [sample.id, side])
            pooled = torch.zeros(tiny_sae.d_sae)
            pooled[rows["feature"].to_list()] = torch.tensor(rows["mean"].to_list())
            residual = store.sql(f"SELECT mean {where.format('residuals')}", [sample.id, side])
            torch.testing.assert_close(
                tiny_sae.decode(pooled) + error,
                torch.tensor(residual["mean"].to_list()[0]),
                atol=1e-4,
                rtol=1e-4,
            )


def test_a_long_sample_is_cut_at_the_end_of_its_completion_and_counted(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs
) -> None:
    (pair,) = make_pairs(1)
    full = {side: render(tiny_model, pair.messages, text) for side, text in pair.sides}
    n_prompt = full["positive"].n_prompt
    store = build(tmp_path, [pair], tiny_model, None, max_tokens=n_prompt + 4, progress=False)
    row = store.sql("FROM samples").row(0, named=True)
    assert row["status"] == "ok"
    assert (row["n_positive_tokens"], row["n_negative_tokens"]) == (4, 4)
    assert row["n_truncated"] == sum(len(r.ids) - n_prompt - 4 for r in full.values())
    assert store.status_counts() == {"ok": 1, "truncated": 1}
    tokens = store.sql("SELECT token_id FROM tokens WHERE side = 'negative' ORDER BY position")
    assert tuple(tokens["token_id"]) == full["negative"].ids[n_prompt : n_prompt + 4]


def test_a_prompt_that_leaves_no_room_drops_its_sample(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs
) -> None:
    short, *_, long = make_pairs(9)
    room = render(tiny_model, short.messages, "x").n_prompt + 3
    store = build(tmp_path, [long, short], tiny_model, None, max_tokens=room, progress=False)
    assert store.status_counts() == {"ok": 1, "prompt_too_long": 1, "truncated": 1}
    assert store.sql("SELECT DISTINCT sample_id FROM tokens").to_series().to_list() == [short.id]
    assert store.matrix("refusal").sample_ids == [short.id]
    assert [sample.id for sample in store.samples()] == [long.id, short.id]


def test_an_empty_completion_drops_its_sample(
    tmp_path: Path,
    tiny_model: LanguageModel,
    make_pairs: Pairs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = make_pairs(3)

    def without_text(*args: object, **options: object) -> object:
        rendered = render(*args, **options)  # type: ignore[arg-type]
        if args[2] == pairs[1].negative:
            return replace(rendered, ids=rendered.ids[: rendered.n_prompt])
        return rendered

    monkeypatch.setattr("trimtab.store.building.batches.render", without_text)
    store = build(tmp_path, pairs, tiny_model, None, progress=False)
    assert store.status_counts() == {"empty_completion": 1, "ok": 2}
    assert store.matrix("refusal").sample_ids == [pairs[0].id, pairs[2].id]
    assert store.verify() == []


@pytest.mark.parametrize("where", ["model", "sae"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_drop_their_sample_and_no_other(
    tmp_path: Path,
    tiny_model: LanguageModel,
    tiny_sae: SAE,
    make_pairs: Pairs,
    where: str,
    value: float,
) -> None:
    odd = replace(make_pairs(1)[0], id="odd", negative="Yes ~")
    (tilde,) = render(tiny_model, odd.messages, "~").ids[-1:]
    model, sae = tiny_model, tiny_sae
    if where == "model":
        module = deepcopy(tiny_model.module)
        module.get_input_embeddings().weight[tilde] = value
        model = replace(tiny_model, module=module)
    else:
        rendered = render(tiny_model, odd.messages, "Yes ~")
        ids = torch.tensor([rendered.ids])
        x = residuals(model, ids, torch.ones_like(ids), [sae.hook_point])[sae.hook_point][0, -1]

        class Poisoned(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.W_dec, self.b_dec = tiny_sae.module.W_dec, tiny_sae.module.b_dec

            def encode(self, y: Tensor) -> Tensor:
                near = (y - x).norm(dim=-1, keepdim=True) < 1e-3
                return torch.where(near, value, tiny_sae.encode(y))

        sae = replace(tiny_sae, module=Poisoned())
    store = build(tmp_path, [odd, *make_pairs(4)], model, sae, progress=False)
    assert store.status_counts() == {"not_finite": 1, "ok": 4}
    assert "odd" not in store.matrix("refusal").sample_ids
    assert store.verify() == []


def test_without_sae_there_are_tokens_and_residuals_of_the_middle_layer(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs
) -> None:
    store = build(tmp_path, make_pairs(3), tiny_model, None, progress=False)
    assert store.fingerprint["hook_point"] == "blocks.2.hook_resid_post"
    assert store.fingerprint["sae"] == "none"
    assert store.sql("FROM activations").is_empty()
    assert store.sql("FROM pooled").is_empty()
    assert store.sql("FROM features").is_empty()
    assert store.sql("FROM contrast").is_empty()
    matrix = store.matrix("refusal")
    assert matrix.features is None
    assert matrix.residual.shape == (3, 16)
    assert store.verify() == []


def test_a_sample_longer_than_the_models_context_is_cut_to_it(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs
) -> None:
    (pair,) = make_pairs(1)
    room = render(tiny_model, pair.messages, "x").n_prompt + 3
    module = deepcopy(tiny_model.module)
    module.config.max_position_embeddings = room
    store = build(tmp_path, [pair], replace(tiny_model, module=module), None, progress=False)
    row = store.sql("FROM samples").row(0, named=True)
    assert (row["n_positive_tokens"], row["n_negative_tokens"]) == (3, 3)
    assert row["n_truncated"] > 0
    assert store.fingerprint["max_tokens"] == str(room)


def test_values_are_stored_as_bfloat16_rounded_to_nearest_even_where_asked(
    tmp_path: Path, tiny_model: LanguageModel, tiny_sae: SAE, make_pairs: Pairs
) -> None:
    exact, rounded = (
        build(
            tmp_path / values, make_pairs(3), tiny_model, tiny_sae, values=values, progress=False
        ).sql("SELECT value FROM activations ORDER BY sample_id, side, position, feature")["value"]
        for values in ("float32", "bfloat16")
    )
    expected = torch.tensor(exact.to_list()).bfloat16().float()
    assert rounded.to_list() == expected.tolist()
    assert rounded.to_list() != exact.to_list()
