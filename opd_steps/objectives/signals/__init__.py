"""How student and teacher are compared, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.nouns.dist import DiagGaussian
    from opd_steps.objectives.evidence import Evidence


class Signal(Protocol):
    """A divergence, or a reward that is no divergence's.

    KIND      divergence: it has `term` and `reward`; reward: `reward` alone; observed: `observed` alone,
              known for the sampled action, and no teacher is asked
    OUTCOME   whether it reads the outcome advantages of groups (evidence.outcome_N)
    """

    KIND: ClassVar[str] = "divergence"
    OUTCOME: ClassVar[bool] = False

    def term(self, logq: Tensor, logp: Tensor) -> Tensor:
        """Summands of the divergence over tokens, of the shape of `logq` and `logp` (log-probs of student and teacher)."""
        raise NotImplementedError

    def reward(self, logq: Tensor, logp: Tensor) -> Tensor:
        """Reward of each token, of the same shape: minus the slope of `term` by the student's probability, up to a constant."""
        raise NotImplementedError

    def observed(self, evidence: Evidence) -> Tensor:
        """Reward of the sampled actions, [N], where it is no function of the two distributions."""
        raise NotImplementedError

    def gaussian(self, q: DiagGaussian, p: DiagGaussian) -> Tensor:
        """The divergence between Gaussian steps in closed form, [N]. Raises ValueError where there is none."""
        raise ValueError(f"{type(self).__name__} has no closed form between Gaussians; take rkl or fkl")
