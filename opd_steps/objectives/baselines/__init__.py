"""What is subtracted from a reward so that its gradient varies less."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.nouns.dist import StepDist
    from opd_steps.objectives.signals import Signal


class Baseline(Protocol):
    """A number per state. As long as it does not depend on the action, the expected gradient stays the same.

    TEACHER   what it asks of the teacher, beside what the support does: none, sampled or full
    """

    TEACHER: ClassVar[str] = "none"

    @abstractmethod
    def value_N(self, q: StepDist, p: StepDist | None, signal: Signal) -> Tensor:
        """The baseline at each decision point, [N], without gradient; `q` the student, `p` the teacher."""
