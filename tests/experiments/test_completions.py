"""Log-probabilities of completions are those of plain forward passes."""

from typing import Literal

import numpy as np
import pytest
import torch

from experiments.completions import Completions
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.pairs import Message
from trimtab.steering.apply import steered
from trimtab.steering.vector import SteeringVector

POINT = HookPoint(2, "hook_resid_post")
DIRECTION = 2.0 * torch.randn(16, generator=torch.Generator().manual_seed(1))


def user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


ASKED: list[tuple[list[Message], list[str]]] = [
    (user("What is the answer?"), ["The answer is (A).", "The answer is (B) of course", "No"]),
    (user("Quick?"), ["The lazy dog", "The"]),
]


@pytest.mark.parametrize("positions", ["prompt_end", "all"])
@pytest.mark.parametrize("chat", [True, False])
def test_scores_are_those_of_plain_passes(
    tiny_model: LanguageModel, positions: Literal["prompt_end", "all"], chat: bool
) -> None:
    vector = SteeringVector(DIRECTION, POINT, positions)
    score = Completions(tiny_model, ASKED, POINT, positions=positions, chat=chat)
    found = score([None, vector.edit(1.0)])
    assert score.owners.tolist() == [0, 0, 0, 1, 1]
    rows = [render(tiny_model, m, text, chat=chat) for m, texts in ASKED for text in texts]
    assert score.lengths.tolist() == [len(row.ids) - row.n_prompt for row in rows]
    for strength, scores in enumerate(found):
        for row, nats in zip(rows, scores, strict=True):
            ids = torch.tensor([row.ids])
            with torch.no_grad(), steered(tiny_model, vector, strength, prompt_length=row.n_prompt):
                logits = tiny_model.module(input_ids=ids, use_cache=False).logits[0]
            own = logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[row.n_prompt - 1 :]
            np.testing.assert_allclose(nats, float(own.sum()), rtol=1e-4)


def test_generated_positions_are_refused(tiny_model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="prompt_end"):
        Completions(tiny_model, ASKED, POINT, positions="generated")
