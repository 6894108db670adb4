from collections.abc import Callable
from pathlib import Path

import torch

from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.pairs.sample import Sample
from trimtab.store import build

Pairs = Callable[..., list[Sample]]


def test_the_default_models_store_agrees_with_plain_forward_passes(
    tmp_path: Path, default_model: LanguageModel, default_sae: SAE, make_pairs: Pairs
) -> None:
    samples = make_pairs(3)
    store = build(tmp_path, samples, default_model, default_sae, progress=False)
    assert store.status_counts() == {"ok": 3}
    assert store.verify() == []
    point = default_sae.hook_point
    for sample in samples:
        for side, text in sample.sides:
            rendered = render(default_model, sample.messages, text)
            ids = torch.tensor([rendered.ids])
            x = residuals(default_model, ids, torch.ones_like(ids), [point])[point]
            x = x[0, rendered.n_prompt :]
            where = "WHERE sample_id = ? AND side = ?"
            rows = store.sql(f"SELECT feature, mean FROM pooled {where}", [sample.id, side])
            pooled = torch.zeros(default_sae.d_sae)
            pooled[rows["feature"].to_list()] = torch.tensor(rows["mean"].to_list())
            row = store.sql(f"SELECT mean FROM residuals {where}", [sample.id, side])
            residual = torch.tensor(row["mean"].to_list()[0])
            torch.testing.assert_close(residual, x.mean(dim=0), atol=1e-3, rtol=1e-4)
            # decoded features + bias + the SAE's error are the residual
            error = (x - default_sae.decode(default_sae.encode(x))).mean(dim=0)
            torch.testing.assert_close(
                default_sae.decode(pooled) + error, residual, atol=1e-2, rtol=1e-4
            )
            # some 50 features of 9,216 are active on a token
            per_token = store.sql(
                f"SELECT count(*) / count(DISTINCT position) FROM activations {where}",
                [sample.id, side],
            ).item()
            assert 10 < per_token < 120
