"""Learned sparse gates over samples and features together, by the gradient of the effect.

Every sample and every feature has a hard-concrete gate in [0, 1] that is exactly 0 or exactly 1
with a probability that can be differentiated: Louizos, Welling and Kingma (2018),
https://arxiv.org/abs/1712.01312. With gates z of samples, y of features, and a size m of each:

    v(z, y) = sum_j y_j m_j W_dec[j] (sum_i z_i d_ij / sum_i z_i)

1. The vector of the settled gates is brought to the length at which it did the damage budget, and
   the gradient of the effect is taken there: one pass of the model, forward and back.
2. A few steps of Adam turn the vector of gates drawn at random towards that gradient, less a
   penalty on the logarithm of the expected number of open gates of each kind: leaving out half of
   the samples is worth as much as leaving out half of the features.
3. After a few such rounds what is shut stays shut, and the penalty doubles: sizes are nested.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab.selector.parts import Choice, Parts

PENALTIES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)  # of cosine to the gradient, an e-fold of parts
ROUNDS = 6  # gradients a penalty
STEPS = 25  # of Adam a gradient
RATE = 0.1
BETA, LOW, HIGH = 2 / 3, -0.1, 1.1  # of the hard-concrete distribution, as in the paper
OPEN_AT_FIRST = 0.9  # probability
MAX_SIZE = 10.0  # of a feature, beside 1 / MAX_SIZE


@dataclass(frozen=True)
class GatePoint:
    """What is open at one penalty, and how many gradients all up to here have cost."""

    penalty: float
    choice: Choice
    gradients: int


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
    spent, unit = 0, None
    for penalty in PENALTIES:
        optimiser = torch.optim.Adam(gates.parameters, lr=RATE)
        length = strength(gates.vector(None).detach())
        towards = None
        for _ in range(ROUNDS):
            settled = _unit(gates.vector(None).detach())
            found = gradient(length * settled)
            towards = found if towards is None else (towards + found) / 2
            unit = float(towards.norm()) if unit is None else unit
            spent += 1
            for _ in range(STEPS):
                optimiser.zero_grad()
                gain = _unit(gates.vector(generator)) @ (towards / max(unit, 1e-12))
                loss: Tensor = penalty * gates.log_expected() - gain
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        gates = gates.shut()
        yield GatePoint(penalty, gates.choice(), spent)


class _Gates:
    """Gates of the samples and features that are still in play.

    Attributes:
        samples: `(n,)` their indices among all.
        features: `(k,)` the same of features, None for the dense vector.
        parameters: logits of the samples' gates `(n,)`, of the features' `(k,)`, and the logarithm
            of each feature's size `(k,)`.
    """

    def __init__(
        self,
        parts: Parts,
        samples: Tensor,
        features: Tensor | None,
        parameters: list[Tensor] | None = None,
    ) -> None:
        self._parts = parts
        self.samples, self.features = samples, features
        if features is None:
            self._rows, self._directions = parts.residual[samples], None
        else:
            assert parts.features is not None and parts.decoder is not None
            self._rows = parts.features[samples][:, features]
            self._directions = parts.decoder[features]
        if parameters is None:
            shift = BETA * math.log(-LOW / HIGH)
            start = math.log(OPEN_AT_FIRST / (1 - OPEN_AT_FIRST)) + shift
            parameters = [torch.full((len(samples),), start)]
            if features is not None:
                parameters += [torch.full((len(features),), start), torch.zeros(len(features))]
        self.parameters = [p.detach().clone().requires_grad_(True) for p in parameters]

    def vector(self, generator: torch.Generator | None) -> Tensor:
        """Return the vector `(d_model,)` of gates drawn at random; settled without generator."""
        z = _gate(self.parameters[0], generator)
        mean = (z / z.sum().clamp_min(1e-6)) @ self._rows
        if self._directions is None:
            return mean
        y = _gate(self.parameters[1], generator)
        return (y * self._sizes() * mean) @ self._directions

    def log_expected(self) -> Tensor:
        """Return the logarithm of the expected number of open samples times open features."""
        shift = BETA * math.log(-LOW / HIGH)
        expected = [torch.sigmoid(logits - shift).sum() for logits in self.parameters[:2]]
        return torch.stack(expected).clamp_min(1.0).log().sum()

    def shut(self) -> "_Gates":
        """Return the gates that are more open than not; the one most open of a kind always is."""
        kept = [_mostly_open(logits) for logits in self.parameters[:2]]
        if self.features is None:
            return _Gates(self._parts, self.samples[kept[0]], None, [self.parameters[0][kept[0]]])
        return _Gates(
            self._parts,
            self.samples[kept[0]],
            self.features[kept[1]],
            [self.parameters[0][kept[0]], *(p[kept[1]] for p in self.parameters[1:])],
        )

    def choice(self) -> Choice:
        """Return the samples and features in play, the features with their sizes."""
        samples = tuple(self.samples.tolist())
        if self.features is None:
            return Choice(samples)
        sizes = self._sizes().detach()
        return Choice(
            samples, tuple(self.features.tolist()), tuple((sizes / sizes.median()).tolist())
        )

    def _sizes(self) -> Tensor:
        return self.parameters[2].clamp(-math.log(MAX_SIZE), math.log(MAX_SIZE)).exp()


def _gate(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return gates in [0, 1], drawn at random or, without a generator, in the middle."""
    if generator is None:
        stretched = torch.sigmoid(logits)
    else:
        u = torch.rand(logits.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
        stretched = torch.sigmoid((u.logit() + logits) / BETA)
    return (stretched * (HIGH - LOW) + LOW).clamp(0.0, 1.0)


def _mostly_open(logits: Tensor) -> Tensor:
    kept = _gate(logits.detach(), None) >= 0.5
    kept[logits.argmax()] = True
    return kept


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm().clamp_min(1e-12)
