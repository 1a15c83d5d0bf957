from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from opd_steps.nouns.policy import Teacher
from opd_steps.nouns.teaching import Given
from opd_steps.teachers.router import Router
from opd_steps.teachers.sources import TeacherSource


@dataclass(frozen=True)
class Routed(TeacherSource):
    """Each row goes to the teacher that its value in a column of the data names: {value: teacher} (MOPD, arXiv 2606.30406).

    The teachers named may have heads, contexts and engines of their own. A row whose value is not named is refused.
    """

    MODEL: ClassVar[str] = "none"
    OTHERS: ClassVar[dict] = {"to": "same"}
    UNCARRIED: ClassVar[str] = ""

    column: str = "domain"
    to: dict[str, str] = field(default_factory=dict)

    def teacher(self, given: Given) -> Teacher:
        return Router(self.column, {value: given.others[name] for value, name in self.to.items()}, given.pool)
