"""A vector as a sum of SAE features, and how much of it each number of features explains.

Features are chosen in two ways, and their coefficients refitted by least squares:

- `pursuit`: orthogonal matching pursuit over the decoder's directions, Pati et al. (1993). It asks
  what the vector is made of. A coefficient may be negative: a vector can take a feature away.
- `encoder`: how far the SAE's own activations move when the vector is added to text. It asks what
  the model's next layers are given to see.

Many features explain any vector: 9,216 directions in 576 dimensions are crowded. So a random
direction goes through the same pursuit, and only what lies above it says something.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trimtab.model.batch import pad
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import residuals
from trimtab.model.render import render
from trimtab.model.sae import SAE
from trimtab.model.sinks import text_tokens

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel

SIZES = (1, 2, 4, 8, 16, 32, 64)
RANDOM = 5  # random directions that the pursuit is compared with
TOKENS_PER_ENCODE = 1024  # bounds the dense activations


@dataclass(frozen=True)
class Explained:
    """What some features explain of a vector.

    Attributes:
        way: how they were chosen, and where it says so, that the coefficients are least squares.
        features: how many.
        cosine: of their sum to the vector; its square is the share of the squared length that
            least squares explain.
        norm: length of their sum over that of the vector.
    """

    way: str
    features: int
    cosine: float
    norm: float


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A vector's features, and what each number of them explains.

    Attributes:
        pursued: features in the order in which the pursuit took them.
        coefficients: least squares over all of `pursued`, in their order; `(k,)` float64.
        shift: mean change of every feature's activation on text, `(d_sae,)`.
        explained: rows of the table, by way and size.
    """

    pursued: tuple[int, ...]
    coefficients: Tensor
    shift: Tensor
    explained: tuple[Explained, ...]


def decompose(
    direction: Tensor, decoder: Tensor, shift: Tensor, *, added: Tensor, seed: int = 0
) -> Decomposition:
    """Decompose a vector.

    Args:
        direction: `(d_model,)`.
        decoder: `(d_sae, d_model)`.
        shift: what `encoder_shift` found, `(d_sae,)`.
        added: the vector that it was found at, `(d_model,)`: `direction` times some multiplier.
        seed: of the random directions.
    """
    pursued = pursue(direction, decoder, max(SIZES))
    lengths = torch.linalg.vector_norm(decoder, dim=1)
    seen = (shift.abs() * lengths).argsort(descending=True, stable=True)[: max(SIZES)].tolist()
    seen = [feature for feature in seen if shift[feature] != 0]
    rows = []
    sizes = sorted({*SIZES, len(pursued)} - {0})  # a pursuit that ended early explains everything
    for size in sizes:
        if size <= len(pursued):
            rows.append(_refitted("pursuit", direction, decoder, pursued[:size]))
        if size <= len(seen):
            chosen = seen[:size]
            rows.append(_explained("encoder", added, decoder, chosen, shift[chosen].double()))
            rows.append(_refitted("encoder, least squares", direction, decoder, chosen))
    rows += _of_random_directions(decoder, sizes, seed)
    fitted = least_squares(direction, decoder, pursued)
    return Decomposition(tuple(pursued), fitted, shift, tuple(rows))


def pursue(direction: Tensor, decoder: Tensor, most: int) -> list[int]:
    """Return at most `most` features in the order in which a matching pursuit takes them.

    Each step takes the feature whose direction has the largest cosine, of either sign, to what is
    left, and refits all coefficients; it ends where nothing is left.
    """
    atoms = torch.nn.functional.normalize(decoder, dim=1).double()
    target = direction.double()
    rest = target
    chosen: list[int] = []
    for _ in range(min(most, *decoder.shape)):
        gains = (atoms @ rest).abs()
        gains[chosen] = 0.0
        best = int(gains.argmax())
        if gains[best] <= 1e-6 * target.norm():
            break
        chosen.append(best)
        rest = target - least_squares(target, decoder, chosen) @ decoder[chosen].double()
    return chosen


def least_squares(direction: Tensor, decoder: Tensor, features: Sequence[int]) -> Tensor:
    """Return the coefficients `(k,)`, float64, that bring the features' sum nearest a vector."""
    basis = decoder[list(features)].double().T
    target = direction.double()[:, None]
    found: Tensor = torch.linalg.lstsq(basis, target, driver="gelsd").solution[:, 0]
    return found


def reconstruction(direction: Tensor, decoder: Tensor, features: Sequence[int]) -> Tensor:
    """Return the nearest sum of these features to a vector, `(d_model,)` float32."""
    coefficients = least_squares(direction, decoder, features)
    return (coefficients @ decoder[list(features)].double()).float()


@torch.no_grad()
def text_residuals(
    model: "LanguageModel", hook_point: HookPoint, texts: Sequence[str], n_tokens: int
) -> Tensor:
    """Return the residuals of the first tokens of texts, `(tokens, d_model)` float32.

    The very first token and attention sinks are left out: SAEs are trained without them.
    """
    rows = [render(model, (), text, chat=False).ids[:n_tokens] for text in texts]
    batch = pad(rows, "right", model.pad_id, model.device)
    seen = residuals(
        model,
        batch.input_ids,
        batch.attention_mask,
        [hook_point],
        position_ids=batch.position_ids,
    )[hook_point].float()
    use = text_tokens(seen, batch.attention_mask)
    use[:, 0] = False
    return seen[use]


@torch.no_grad()
def encoder_shift(sae: SAE, residuals: Tensor, added: Tensor) -> Tensor:
    """Return the mean change of every feature's activation, `(d_sae,)` float32 on the CPU.

    Args:
        sae: encodes.
        residuals: of text, at the SAE's hook point, `(tokens, d_model)`.
        added: what is added to each, `(d_model,)`.
    """
    total = torch.zeros(sae.d_sae, dtype=torch.float64)
    for start in range(0, len(residuals), TOKENS_PER_ENCODE):
        rows = residuals[start : start + TOKENS_PER_ENCODE]
        moved = sae.encode(rows + added.to(rows)) - sae.encode(rows)
        total += moved.double().sum(0).cpu()
    return (total / len(residuals)).float()


def _refitted(way: str, direction: Tensor, decoder: Tensor, features: Sequence[int]) -> Explained:
    coefficients = least_squares(direction, decoder, features)
    return _explained(way, direction, decoder, features, coefficients)


def _explained(
    way: str, direction: Tensor, decoder: Tensor, features: Sequence[int], coefficients: Tensor
) -> Explained:
    total = coefficients @ decoder[list(features)].double()
    target = direction.double()
    cosine = torch.cosine_similarity(total, target, dim=0)
    return Explained(way, len(features), float(cosine), float(total.norm() / target.norm()))


def _of_random_directions(decoder: Tensor, sizes: Sequence[int], seed: int) -> list[Explained]:
    """Return what the pursuit explains of random directions, the mean over a few."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[int, list[Explained]] = {}
    for _ in range(RANDOM):
        direction = torch.randn(decoder.shape[1], generator=generator)
        pursued = pursue(direction, decoder, max(SIZES))
        for size in sizes:
            if size <= len(pursued):
                row = _refitted("random direction", direction, decoder, pursued[:size])
                found.setdefault(size, []).append(row)
    return [
        Explained(
            "random direction",
            size,
            sum(row.cosine for row in rows) / len(rows),
            sum(row.norm for row in rows) / len(rows),
        )
        for size, rows in found.items()
    ]
