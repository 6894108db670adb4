"""The recipe trains an SAE that trimtab itself loads."""

import json
from pathlib import Path

import pytest
import torch

from experiments import train_sae
from trimtab.model.hook_points import parse_hook_point
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import load_sae

POINT = "blocks.1.hook_resid_post"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [
        {"text": f"The cat number {i} sat on the mat and looked at the dog."} for i in range(40)
    ]
    chats = [{"messages": [{"role": "user", "content": f"Is {i} even?"}]} for i in range(40)]
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows + chats), encoding="utf-8")
    return file


def test_batches_leave_out_the_first_token_and_tokens_far_above_the_median(
    tiny_model: LanguageModel, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_sae, "SHUFFLED_TOKENS", 500)
    batches = train_sae.activations(
        tiny_model, parse_hook_point(POINT), [corpus], context=16, batch=64, seed=0
    )
    batch = next(batches)
    assert batch.shape == (64, tiny_model.d_model)
    norms = batch.norm(dim=1)
    assert float(norms.max()) < 2 * train_sae.SINK_FACTOR * float(norms.median())


@pytest.mark.filterwarnings("ignore")  # sae_lens' trainer warns about its own dependencies
def test_a_trained_sae_loads_as_a_folder_and_knows_where_it_belongs(
    tiny_model: LanguageModel,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_sae, "SHUFFLED_TOKENS", 500)
    monkeypatch.setattr(train_sae, "load_model", lambda _: tiny_model)
    out = tmp_path / "sae"
    train_sae.train(
        [corpus], out, hook_point=POINT, tokens=4096, width=48, k=4, batch=64, context=16
    )
    sae = load_sae(str(out), tiny_model)
    assert sae is not None
    assert (sae.d_in, sae.d_sae, str(sae.hook_point)) == (tiny_model.d_model, 48, POINT)
    assert bool(torch.isfinite(sae.W_dec).all())
