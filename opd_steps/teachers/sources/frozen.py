from __future__ import annotations

from dataclasses import dataclass

from opd_steps.teachers.sources import TeacherSource


@dataclass(frozen=True)
class Frozen(TeacherSource):
    """The teacher node's weights, for ever."""

    def teacher(self, policy, pool):
        return policy

    def hook(self, policy) -> None:
        return None
