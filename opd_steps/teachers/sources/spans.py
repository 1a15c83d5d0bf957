from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.teachers.sources import TeacherSource
from opd_steps.teachers.spans import SpanTeacher


@dataclass(frozen=True)
class Spans(TeacherSource):
    """A frozen teacher with another tokenizer, asked about spans of text (SimpleOPD). With it goes the transform `span_sum`."""

    ANSWERS: ClassVar[str] = "sampled"
    OTHER_TOKENIZER: ClassVar[bool] = True

    def teacher(self, policy, pool) -> SpanTeacher:
        return SpanTeacher(policy, pool)

    def hook(self, policy) -> None:
        return None
