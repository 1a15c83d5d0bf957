from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals import Signal


@dataclass(frozen=True)
class Outcome(Signal):
    """The row's outcome advantage as the reward of each of its decisions: GRPO (arXiv 2402.03300). No teacher is asked."""

    KIND: ClassVar[str] = "observed"
    OUTCOME: ClassVar[bool] = True

    def observed(self, evidence: Evidence) -> Tensor:
        """Reward of the sampled actions, [N]. Raises ValueError when the batch carries no outcome."""
        if evidence.outcome_N is None:
            raise ValueError("the outcome signal needs outcome advantages, and this batch has none")
        return evidence.outcome_N
