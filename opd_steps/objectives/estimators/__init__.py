"""How a term's gradient is estimated."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.nouns.dist import StepDist
    from opd_steps.objectives.baselines import Baseline
    from opd_steps.objectives.evidence import Evidence
    from opd_steps.objectives.signals import Signal
    from opd_steps.objectives.supports import Support


class Estimator(Protocol):
    """Turns a signal on a support into a loss per decision point.

    SUPPORT    the supports that it works on: sampled, set (of tokens: all others) or any
    SIGNAL     the signals: divergence, any, or fixed (it has its own)
    TEACHER    support: as much as the support asks of the teacher; none: nobody is asked; hidden: hidden states, of the teacher's
               `layers` and of the student's `student_layers` (empty: the same)
    BASELINE   whether it subtracts the baseline from a reward
    TRANSFORM  whether it transforms its advantage: then `loss` also takes `transforms`, a tuple of those that are not WIDE
    METRICS    its curves, beside log_ratio, advantage and divergence
    """

    SUPPORT: ClassVar[str]
    SIGNAL: ClassVar[str]
    TEACHER: ClassVar[str] = "support"
    BASELINE: ClassVar[bool] = False
    TRANSFORM: ClassVar[bool] = False
    METRICS: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def loss(
        self, q: StepDist, evidence: Evidence, support: Support, signal: Signal, baseline: Baseline
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, {curve: detached figures}), each [N]. Gradients flow through the student `q` alone."""
