from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.nouns.teaching import Given
from opd_steps.teachers.sources import TeacherSource
from opd_steps.teachers.spans import SpanTeacher


@dataclass(frozen=True)
class Spans(TeacherSource):
    """A frozen teacher with another tokenizer, asked about spans of text (SimpleOPD). With it goes the transform `span_sum`."""

    ANSWERS: ClassVar[str] = "sampled"
    OTHER_TOKENIZER: ClassVar[bool] = True

    def teacher(self, given: Given) -> SpanTeacher:
        return SpanTeacher(given.load(), given.pool)
