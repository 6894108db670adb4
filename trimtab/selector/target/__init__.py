"""The target of a run: the cheap measure that stands in for what the model writes.

No surrogate is right for every behaviour, so each has to prove itself in the run: a few dozen
unlike vectors are brought to equal damage, their replies judged, and the surrogate, or the mixture
of several, that ranks them most as their behaviour rates do becomes the target. At checkpoints the
run comes back to generation, and stops trusting a surrogate that has come apart from it.

Each surrogate is a file with one function, `surrogate(ground, replies)`.
"""

from trimtab.selector.target.checkpoints import checkpoint
from trimtab.selector.target.choice import choose_target
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.target import Target

__all__ = ["Ground", "Target", "checkpoint", "choose_target"]
