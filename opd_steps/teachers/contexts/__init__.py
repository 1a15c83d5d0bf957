"""What a teacher sees in place of the student's prompt."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.nouns.trajectory import Trajectory


class TeacherContext(Protocol):
    """Prepares sampled rows for the teacher.

    HINTS   whether it shows attempts: the data node's `hints` says how
    GROUP   whether it compares samples of one prompt: the node samples two or more
    EDITS   whether it changes sampled tokens: needs a verifier that can restate a confidence, and allows no importance ratio
    """

    HINTS: ClassVar[bool] = False
    GROUP: ClassVar[bool] = False
    EDITS: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, rows: Trajectory, pool: Any, seed: int, name: str) -> Trajectory:
        """`rows` with what the teacher of that name sees as the column `context:<name>`; without it the student's own prompt."""
