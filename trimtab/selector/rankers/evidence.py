"""What a ranker may look at."""

from dataclasses import dataclass

from torch import Tensor

from trimtab.selector.parts import Parts


@dataclass(frozen=True, eq=False)
class Evidence:
    """Cached differences of the pairs to choose from, and the gradient of the target.

    Attributes:
        parts: rows of the samples that may be chosen.
        gradient: `(d_model,)`, of the target's effect by the vector that is added; measured on
            samples that are none of `parts`.
        seed: of the random ranker.
    """

    parts: Parts
    gradient: Tensor
    seed: int = 0

    @property
    def mean_residual(self) -> Tensor:
        """The dense vector of all samples, `(d_model,)`."""
        return self.parts.residual.mean(0)

    @property
    def feature_differences(self) -> Tensor:
        """`(n, d_sae)` differences of the features."""
        assert self.parts.features is not None, "a feature ranker needs an SAE"
        return self.parts.features

    @property
    def decoder(self) -> Tensor:
        """`(d_sae, d_model)` directions of the features."""
        assert self.parts.decoder is not None, "a feature ranker needs an SAE"
        return self.parts.decoder
