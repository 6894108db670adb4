"""What a run aims at, how well that has stood up so far, and how it came to be chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.intervals import Estimate
from trimtab.selector.target.behavior_rate import guided
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.learned import mixture
from trimtab.selector.target.panel import Panel
from trimtab.selector.target.surrogate import Surrogate, gradient_along

UNJUDGED = Estimate(None, reason="nothing can judge the replies, so no rank correlation is known")


@dataclass(frozen=True, eq=False)
class Target:
    """The surrogate that candidates are ranked by.

    Attributes:
        ground: what everything is measured on.
        aim: what candidates are ranked by.
        trusted: name of the surrogate that is trusted; the aim's own, but where the aim is the
            behaviour rate itself, that which gives its gradient.
        gradient: `(d_model,)`, averaged along the dense vector up to its calibrated multiplier.
        panel: what surrogates are tried on; None where nothing can judge replies.
        weights: of the mixture, where that is the aim.
        forced: what was asked for instead of a choice.
        version: how often the target has changed.
        history: a row a checkpoint, the start first.
    """

    ground: Ground
    aim: Surrogate
    trusted: str
    gradient: Tensor
    panel: Panel | None = None
    weights: Mapping[str, float] | None = None
    forced: str | None = None
    version: int = 0
    history: tuple[dict[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """One of `trimtab.selector.surrogates.TARGETS`."""
        return self.aim.name

    @property
    def groups(self) -> list[str]:
        """The groups of the parts of an effect."""
        return list(self.aim.groups)

    @property
    def rank_correlation(self) -> Estimate:
        """Of the trusted surrogate with the behaviour rate over the panel: Spearman's."""
        if self.panel is None:
            return UNJUDGED
        return self.panel.standing.correlations.get(self.trusted, UNJUDGED)

    def effect(self, direction: Tensor) -> float:
        """Return what a direction `(d_model,)` does at equal damage."""
        return self.aim.effect(direction)

    def effects(self, direction: Tensor) -> NDArray[np.float64]:
        """Return the parts of an effect, `(n,)`; the effect is their mean."""
        return self.aim.effects(direction)

    def slope(self, at: Tensor) -> Tensor:
        """Return the gradient of the effect at an added vector, `(d_model,)` both."""
        return self.gradient if self.aim.gradient is None else self.aim.gradient(at)

    def to_json(self) -> dict[str, Any]:
        """Return what the card says of the target."""
        panel = self.panel
        return {
            "name": self.name,
            "trusted": self.trusted,
            "rank_correlation": self.rank_correlation.to_json(),
            "ceiling": (panel.standing.ceiling if panel else UNJUDGED).to_json(),
            "surrogates": {
                name: found.to_json()
                for name, found in (panel.standing.correlations if panel else {}).items()
            },
            "mixture": self.weights,
            "history": list(self.history),
            "panel": panel.rows() if panel else [],
        }


def take_aim(
    ground: Ground,
    surrogates: Sequence[Surrogate],
    trusted: str,
    weights: Mapping[str, float] | None,
    *,
    at_rate: bool,
) -> tuple[Surrogate, Tensor]:
    """Return what to rank candidates by, and its gradient along the dense vector, `(d_model,)`.

    Args:
        ground: where it is measured.
        surrogates: all that there are.
        trusted: one of them, or "learned".
        weights: of the mixture.
        at_rate: aim at the behaviour rate itself, with the gradient of the trusted one.
    """
    by_name = {surrogate.name: surrogate for surrogate in surrogates}
    if weights is not None:
        by_name["learned"] = mixture(surrogates, weights)
    aim = guided(ground, by_name[trusted]) if at_rate else by_name[trusted]
    gradient = gradient_along(ground, aim)
    return aim, ground.dense if gradient is None else gradient
