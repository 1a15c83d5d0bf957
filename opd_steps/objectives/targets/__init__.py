"""What a term pulls the student towards."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.nouns.dist import StepDist
    from opd_steps.objectives.evidence import Evidence


class Target(Protocol):
    """Makes the distribution that stands in for the teacher's.

    TEACHER     what `of` asks of the teacher, beside what the support does: none, sampled or full
    REFERENCE   whether `of` looks at the reference
    NEUTRAL     option values with which it looks at no reference after all
    NORMALISED  whether the answer is a distribution; if not, log-weights that differ from one by a constant per state
    """

    TEACHER: ClassVar[str] = "none"
    REFERENCE: ClassVar[bool] = False
    NEUTRAL: ClassVar[dict] = {}
    NORMALISED: ClassVar[bool] = True

    @abstractmethod
    def of(self, q: StepDist, evidence: Evidence) -> StepDist | None:
        """The target at N decision points, without gradient; `q`: the student's distributions. None where no teacher is asked."""
