from __future__ import annotations

from dataclasses import dataclass

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.targets import Target


@dataclass(frozen=True)
class Teacher(Target):
    """The teacher's own distribution p."""

    def of(self, q: StepDist, evidence: Evidence) -> StepDist | None:
        return evidence.teacher
