"""The fast path gives the numbers of plain full passes: over architectures, hook points, positions,
operations, dtypes and texts, for one change and for many at once, and its gradients too."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trimtab.model.hook_points import SITES, HookPoint
from trimtab.model.hooks import edit
from trimtab.model.language_model import LanguageModel
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.pairs import Sample
from trimtab.steering.apply import Edit
from trimtab.steering.clamp import FeatureClamp
from trimtab.steering.damage import CONTEXT_TOKENS, Damage
from trimtab.steering.margin import Margin
from trimtab.steering.positions import Positions
from trimtab.steering.vector import SteeringVector

WORDS = ["I", "think", "that", "you", "should", "not", "do", "rather", "tell", "why", "course"]
ROUNDING = 1e-4  # nats, in float32
COARSE = 0.15  # nats, in bfloat16, for which these models' weights are unkindly large

few_examples = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
points = st.builds(HookPoint, st.integers(0, 3), st.sampled_from(SITES))
positions_ = st.sampled_from(get_args(Positions))
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
letters = st.just(("(A)", "(B)"))
sides = st.one_of(st.tuples(words, words), letters).filter(lambda s: s[0] != s[1])
prompts = st.one_of(st.none(), words)


@st.composite
def pair_lists(draw: st.DrawFn) -> list[Sample]:
    found = []
    for i in range(draw(st.integers(1, 4))):
        prompt, (positive, negative) = draw(prompts), draw(sides)
        messages = () if prompt is None else ({"role": "user", "content": prompt},)
        found.append(Sample(str(i), "tone", messages, positive, negative, str(i)))
    return found


class ReluSAE(nn.Module):
    """An SAE without thresholds to jump over, so that rounding stays rounding."""

    def __init__(self) -> None:
        super().__init__()
        w_dec = torch.randn(24, 16, generator=torch.Generator().manual_seed(0)) / 4
        self.W_dec, self.b_dec = nn.Parameter(w_dec), nn.Parameter(torch.zeros(16))

    def encode(self, x: Tensor) -> Tensor:
        return (x @ self.W_dec.T).relu()


@st.composite
def changes(draw: st.DrawFn) -> Edit:
    """A vector added, features clamped, or features ablated, at some multiplier."""
    anywhere = HookPoint(0, "hook_resid_pre")  # an edit knows nothing of where it acts
    multiplier = draw(st.sampled_from([-2.0, 0.5, 3.0]))
    if draw(st.booleans()):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        vector = SteeringVector(torch.randn(16, generator=generator), anywhere)
        change = vector.edit(multiplier)
    else:
        value = draw(st.sampled_from([0.0, 1.0]))
        features = draw(st.lists(st.integers(0, 23), min_size=1, max_size=3))
        sae = SAE("relu", anywhere, ReluSAE().requires_grad_(False))
        change = FeatureClamp(sae, dict.fromkeys(features, value)).edit(multiplier)
    assert change is not None
    return change


def plain_margins(
    model: LanguageModel,
    samples: Sequence[Sample],
    point: HookPoint,
    change: Edit | None,
    positions: Positions,
) -> Tensor:
    """Margins `(n,)` float64 by one full pass a completion, no cache, nothing batched."""
    scores = []
    for one in samples:
        for _, text in one.sides:
            row = render(model, one.messages, text)
            first = {"all": 0, "prompt_end": row.n_prompt - 1, "generated": row.n_prompt}[positions]

            def on_tail(x: Tensor, first: int = first) -> Tensor:
                if change is None or first >= x.shape[1]:
                    return x
                return torch.cat([x[:, :first], change(x[:, first:])], dim=1)

            with edit(model, point, on_tail):
                logits = model.module(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
            logprobs = logits[:-1].double().log_softmax(-1)
            own = logprobs.gather(1, torch.tensor(row.ids)[1:, None])[row.n_prompt - 1 :]
            scores.append(own.sum() if one.single_letter else own.mean())
    return torch.stack(scores).view(-1, 2) @ torch.tensor([1.0, -1.0], dtype=torch.float64)


@few_examples
@given(pair_lists(), points, positions_, st.lists(changes(), min_size=1, max_size=5))
def test_margins_are_those_of_plain_passes(
    family_model: LanguageModel,
    samples: list[Sample],
    point: HookPoint,
    positions: Positions,
    edits: list[Edit],
) -> None:
    margin = Margin(family_model, samples, point, positions=positions)
    together = margin.effects_of_many(edits)
    with torch.no_grad():
        base = plain_margins(family_model, samples, point, None, positions).numpy()
        np.testing.assert_allclose(margin.base, base, atol=ROUNDING)
        for change, found in zip(edits, together, strict=True):
            plain = plain_margins(family_model, samples, point, change, positions).numpy()
            np.testing.assert_allclose(found, plain - base, atol=2 * ROUNDING)
            np.testing.assert_allclose(margin.effects(change), plain - base, atol=2 * ROUNDING)


@few_examples
@given(pair_lists(), points, positions_, changes())
def test_in_bfloat16_margins_are_those_of_plain_passes_but_for_its_rounding(
    half_model: LanguageModel,
    samples: list[Sample],
    point: HookPoint,
    positions: Positions,
    change: Edit,
) -> None:
    found = Margin(half_model, samples, point, positions=positions).per_sample(change)
    with torch.no_grad():
        plain = plain_margins(half_model, samples, point, change, positions).numpy()
    np.testing.assert_allclose(found, plain, atol=COARSE)


@few_examples
@given(pair_lists(), points, positions_, st.integers(0, 99), st.sampled_from([0.0, 2.0]))
def test_gradients_are_those_of_plain_passes(
    family_model: LanguageModel,
    samples: list[Sample],
    point: HookPoint,
    positions: Positions,
    seed: int,
    length: float,
) -> None:
    at = length * torch.randn(16, generator=torch.Generator().manual_seed(seed))
    found = Margin(family_model, samples, point, positions=positions).gradient(at)
    vector = at.clone().requires_grad_(True)
    with torch.enable_grad():
        effect = plain_margins(family_model, samples, point, lambda x: x + vector, positions).mean()
        (expected,) = torch.autograd.grad(effect, vector, allow_unused=True)
    expected = torch.zeros(16) if expected is None else expected
    scale = float(expected.abs().max()) + 0.1
    torch.testing.assert_close(found, expected, atol=1e-3 * scale, rtol=1e-3)


@few_examples
@given(
    st.lists(words, min_size=1, max_size=5),
    points,
    st.lists(changes(), min_size=1, max_size=5),
)
def test_damage_is_that_of_plain_passes(
    family_model: LanguageModel, texts: list[str], point: HookPoint, edits: list[Edit]
) -> None:
    texts = [f"{text} {text}" for text in texts]  # two tokens at least
    found = Damage(family_model, point, texts).of_many(edits)
    rows = [render(family_model, (), text, chat=False).ids[:CONTEXT_TOKENS] for text in texts]
    for change, divergence in zip(edits, found, strict=True):
        nats = torch.cat([plain_divergence(family_model, row, 1, point, change) for row in rows])
        assert divergence.mean == pytest.approx(float(nats.mean()), rel=2e-3, abs=1e-5)
        assert divergence.p95 == pytest.approx(np.quantile(nats, 0.95), rel=2e-3, abs=1e-5)


@torch.no_grad()
def plain_divergence(
    model: LanguageModel, row: Sequence[int], first: int, point: HookPoint, change: Edit
) -> Tensor:
    """KL of every token from `first` on, `(n,)` float64, that many left unsteered before it."""
    ids = torch.tensor([row])

    def on_tail(x: Tensor) -> Tensor:
        return torch.cat([x[:, :first], change(x[:, first:])], dim=1)

    base = model.module(input_ids=ids).logits[0, first:].double().log_softmax(-1)
    with edit(model, point, on_tail):
        steered = model.module(input_ids=ids).logits[0, first:].double().log_softmax(-1)
    nats: Tensor = torch.linalg.vecdot(steered.exp(), steered - base)
    return nats


@pytest.fixture(scope="session")
def half_model(family_model: LanguageModel) -> LanguageModel:
    """Every family in turn, in bfloat16."""
    module = type(family_model.module)(family_model.module.config)
    module.load_state_dict(family_model.module.state_dict())
    return replace(family_model, module=module.eval().requires_grad_(False).bfloat16())
