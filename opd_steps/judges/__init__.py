"""Judges beside the task's own: after the rows of a step are made, each may change or add what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory


@dataclass(frozen=True)
class Bench:
    """What a judge may look at: the learners by name ("" is the student), the teachers, the prompts, the node's budget and seed."""

    learners: Mapping[str, Policy]
    teachers: Mapping[str, Teacher]
    pool: Any
    window: int
    seed: int


class Judge(Protocol):
    """METRICS  figures that it draws: `judge` returns them"""

    METRICS: ClassVar[tuple[str, ...]] = ()

    def judge(self, rows: Trajectory, bench: Bench) -> tuple[Trajectory, dict[str, float]]:
        """The rows with another reward_B, or with more columns; all of a step at once, so that groups may be compared. Figures."""
