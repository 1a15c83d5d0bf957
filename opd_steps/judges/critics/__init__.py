"""Who makes a rubric of a question's answers, and who checks answers against it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opd_steps.judges.critics._rubric import Rubric


class Critic(Protocol):
    """Rubricator and verifier of ROPD (arXiv 2605.07396): both see texts and nothing else."""

    @abstractmethod
    def rubric(self, question: str, teacher: Sequence[str], students: Sequence[str]) -> Rubric:
        """Criteria on which the teacher's answers and the students' differ. Raises NoRubric where it can make none."""

    @abstractmethod
    def verdicts(self, rubric: Rubric, question: str, answers: Sequence[str]) -> list[list[bool]]:
        """Of each answer, whoever wrote it, which criteria it meets. Raises NoRubric where it cannot say."""
