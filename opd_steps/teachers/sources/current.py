from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.nouns.policy import Teacher
from opd_steps.nouns.teaching import Given
from opd_steps.teachers.sources import TeacherSource
from opd_steps.teachers.view import ModelTeacher


@dataclass(frozen=True)
class Current(TeacherSource):
    """The student itself as it stands (`model: self`), or another learner of the node (`model: self:<learner>`); not differentiated.

    With a context of its own this is self-distillation from what the student would say if it were told more.
    """

    MODEL: ClassVar[str] = "self"
    UNCARRIED: ClassVar[str] = ""

    @property
    def follows(self) -> float:
        return 1.0

    def teacher(self, given: Given) -> Teacher:
        return ModelTeacher(given.learner)
