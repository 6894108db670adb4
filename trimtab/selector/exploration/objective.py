"""What every method of selection maximises: the target's effect of a choice, at equal damage."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from trimtab.selector.exploration.surface import Candidate, Method
from trimtab.selector.parts import Choice, Parts, compose


@dataclass
class Cost:
    """How often a method has asked for an effect and for a gradient.

    What a journal answers counts too: it is the price of a method that stands alone. A gradient is
    about three passes over the scored pairs; an effect is one, and the calibration before it.
    """

    effects: int = 0
    gradients: int = 0


@dataclass(frozen=True, eq=False)
class Objective:
    """Measures choices on the target, and counts what each method asks for.

    Attributes:
        pools: the parts that choices are made of, by pooling.
        start: `(d_model,)`, the gradient that the target was calibrated with.
        effect: of a direction `(d_model,)`, brought to the damage budget.
        strength: the length at which a direction does that damage.
        slope: gradient of the effect, `(d_model,)`, at an added vector `(d_model,)`.
        cost: of every method so far.

    All three raise VectorError where no multiplier brings a direction to the budget.
    """

    pools: Mapping[str, Parts]
    start: Tensor
    effect: Callable[[Tensor], float]
    strength: Callable[[Tensor], float]
    slope: Callable[[Tensor], Tensor]
    cost: dict[Method, Cost] = field(default_factory=dict)

    def candidate(
        self,
        method: Method,
        pooling: str,
        choice: Choice,
        origin: str,
        towards: Tensor | None = None,
    ) -> Candidate:
        """Return a choice with its effect measured; `towards` is what it was matched to.

        Raises:
            VectorError: no multiplier brings its vector to the damage budget.
        """
        self._cost(method).effects += 1
        effect = self.effect(compose(self.pools[pooling], choice))
        return Candidate(pooling, choice, effect, origin, method, towards)

    def gradient(self, method: Method, added: Tensor) -> Tensor:
        """Return the gradient of the effect at an added vector, `(d_model,)` both."""
        self._cost(method).gradients += 1
        return self.slope(added)

    def _cost(self, method: Method) -> Cost:
        return self.cost.setdefault(method, Cost())
