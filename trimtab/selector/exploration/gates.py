"""Learned sparse gates over samples and features together, by the gradient of the effect.

Every sample and every feature has a hard-concrete gate in [0, 1] that is exactly 0 or exactly 1
with a probability that can be differentiated: Louizos, Welling and Kingma (2018),
https://arxiv.org/abs/1712.01312. With gates z of samples and y of features:

    v(z, y) = sum_j y_j W_dec[j] (sum_i z_i d_ij / sum_i z_i)

1. The vector of the settled gates is brought to the length at which it did the damage budget, and
   the gradient of the effect is taken there: one pass of the model, forward and back.
2. Steps of Adam turn the vector of gates drawn at random towards that gradient, less a penalty on
   the logarithm of the expected number of open gates of each kind: leaving out half of the samples
   is worth as much as leaving out half of the features.
3. What is shut stays shut, and the penalty grows: sizes are nested.

Features have no sizes of their own here: with free sizes any few samples make nearly any vector,
and gates of samples learn nothing.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab.selector.parts import Choice, Parts

PENALTIES = (0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0)  # of cosine to the gradient, an e-fold of parts
STEPS = 200  # of Adam a penalty
RATE = 0.1
BETA, LOW, HIGH = 2 / 3, -0.1, 1.1  # of the hard-concrete distribution, as in the paper
SHIFT = BETA * math.log(-LOW / HIGH)  # a gate is open with probability sigmoid(logit - SHIFT)
OPEN_AT_FIRST = 0.9  # probability


@dataclass(frozen=True)
class GatePoint:
    """What is open at one penalty.

    Attributes:
        penalty: of an e-fold of parts.
        choice: the open samples and features.
        gradient: `(d_model,)` that they were trained towards.
    """

    penalty: float
    choice: Choice
    gradient: Tensor


def gate_path(
    parts: Parts,
    features: tuple[int, ...] | None,
    gradient: Callable[[Tensor], Tensor],
    strength: Callable[[Tensor], float],
    *,
    seed: int,
) -> Iterator[GatePoint]:
    """Yield what the gates leave open at each penalty, ever less.

    Args:
        parts: what vectors are made of.
        features: those that may be used; None for the dense vector, where samples alone have gates.
        gradient: of the effect, `(d_model,)`, at an added vector `(d_model,)`.
        strength: the length at which a direction does the damage budget; asked for once a penalty.
        seed: of the gates' draws.

    Raises:
        VectorError: as `strength` does.
    """
    generator = torch.Generator().manual_seed(seed)
    gates = _Gates(
        parts,
        torch.arange(parts.n_samples),
        None if features is None else torch.tensor(features),
    )
    unit = None
    for penalty in PENALTIES:
        optimiser = torch.optim.Adam(gates.logits, lr=RATE)
        length = strength(gates.vector(None).detach())
        towards = gradient(length * _unit(gates.vector(None).detach()))
        unit = float(towards.norm()) if unit is None else unit
        for _ in range(STEPS):
            optimiser.zero_grad()
            gain = _unit(gates.vector(generator)) @ (towards / max(unit, 1e-12))
            loss: Tensor = penalty * gates.log_expected() - gain
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        gates = gates.shut()
        yield GatePoint(penalty, gates.choice(), towards)


class _Gates:
    """Gates of the samples and features that are still in play.

    Attributes:
        samples: `(n,)` their indices among all.
        features: `(k,)` the same of features, None for the dense vector.
        logits: of the samples' gates `(n,)`, and of the features' `(k,)`.
    """

    def __init__(
        self,
        parts: Parts,
        samples: Tensor,
        features: Tensor | None,
        logits: list[Tensor] | None = None,
    ) -> None:
        self._parts = parts
        self.samples, self.features = samples, features
        if features is None:
            self._rows, self._directions = parts.residual[samples], None
        else:
            assert parts.features is not None and parts.decoder is not None
            self._rows = parts.features[samples][:, features]
            self._directions = parts.decoder[features]
        if logits is None:
            start = math.log(OPEN_AT_FIRST / (1 - OPEN_AT_FIRST)) + SHIFT
            kinds = [samples] if features is None else [samples, features]
            logits = [torch.full((len(kind),), start) for kind in kinds]
        self.logits = [each.detach().clone().requires_grad_(True) for each in logits]

    def vector(self, generator: torch.Generator | None) -> Tensor:
        """Return the vector `(d_model,)` of gates drawn at random; settled without generator."""
        z = _gate(self.logits[0], generator)
        mean = (z / z.sum().clamp_min(1e-6)) @ self._rows
        if self._directions is None:
            return mean
        return (_gate(self.logits[1], generator) * mean) @ self._directions

    def log_expected(self) -> Tensor:
        """Return the logarithm of the expected number of open samples times open features."""
        expected = [torch.sigmoid(logits - SHIFT).sum() for logits in self.logits]
        return torch.stack(expected).clamp_min(1.0).log().sum()

    def shut(self) -> "_Gates":
        """Return the gates that are more open than not; the one most open of a kind always is."""
        kept = [_mostly_open(logits) for logits in self.logits]
        left = [logits[some] for logits, some in zip(self.logits, kept, strict=True)]
        features = None if self.features is None else self.features[kept[1]]
        return _Gates(self._parts, self.samples[kept[0]], features, left)

    def choice(self) -> Choice:
        """Return the samples and features in play."""
        features = None if self.features is None else tuple(self.features.tolist())
        return Choice(tuple(self.samples.tolist()), features)


def _gate(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return gates in [0, 1], drawn at random or, without a generator, in the middle."""
    if generator is None:
        stretched = torch.sigmoid(logits)
    else:
        u = torch.rand(logits.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
        stretched = torch.sigmoid((u.logit() + logits) / BETA)
    return (stretched * (HIGH - LOW) + LOW).clamp(0.0, 1.0)


def _mostly_open(logits: Tensor) -> Tensor:
    kept: Tensor = _gate(logits.detach(), None) >= 0.5
    kept[logits.argmax()] = True
    return kept


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm().clamp_min(1e-12)
    return unit
