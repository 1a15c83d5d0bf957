from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.nouns.policy import Teacher
from opd_steps.nouns.teaching import Given
from opd_steps.teachers.sources import TeacherSource
from opd_steps.teachers.view import ModelTeacher


@dataclass(frozen=True)
class Frozen(TeacherSource):
    """The teacher node's weights, for ever; of `model: self`, those that the student starts from."""

    UNCARRIED: ClassVar[str] = ""

    def teacher(self, given: Given) -> Teacher:
        return ModelTeacher(given.load())
