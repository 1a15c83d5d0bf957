"""A teacher by its name: whose opinion it is, and in which context that one sees the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory


@dataclass(frozen=True)
class View:
    """`inner`, shown what `context` makes of the prompts (a plug of teachers/contexts). Its columns bear its name."""

    name: str
    inner: Teacher
    context: Any
    pool: Any
    seed: int

    def prepare(self, rows: Trajectory) -> Trajectory:
        return self.inner.prepare(self.context.prepare(rows, self.pool, self.seed, self.name), self.name)

    def dist(self, trajectory: Trajectory, role: str = "", asks: Asks = NOTHING) -> StepDist:
        return self.inner.dist(trajectory, self.name, asks)


@dataclass(frozen=True)
class ModelTeacher:
    """A policy asked for its opinion; the student itself is one."""

    policy: Policy

    def prepare(self, rows: Trajectory, name: str) -> Trajectory:
        return rows

    def dist(self, trajectory: Trajectory, role: str, asks: Asks = NOTHING) -> StepDist:
        return self.policy.dist(trajectory, role, asks)
