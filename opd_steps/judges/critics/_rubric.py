"""Rubrics: binary criteria with points, 4 to 12 of them, each to be judged on one answer (ROPD, arXiv 2605.07396)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256

FEWEST, MOST, POINTS = 4, 12, range(1, 6)


class NoRubric(Exception):
    """There is no rubric of this group, or no verdict by it: its rewards are 0, and it is flagged."""


@dataclass(frozen=True)
class Criterion:
    category: str
    text: str
    points: int


@dataclass(frozen=True)
class Rubric:
    """Raises NoRubric for too few or too many criteria, and for points that are none of 1 to 5."""

    criteria: tuple[Criterion, ...]

    def __post_init__(self) -> None:
        if not FEWEST <= len(self.criteria) <= MOST:
            raise NoRubric(f"{len(self.criteria)} criteria; expected {FEWEST} to {MOST}")
        if wrong := [c.points for c in self.criteria if type(c.points) is not int or c.points not in POINTS]:
            raise NoRubric(f"{wrong[0]} points; expected 1 to 5")

    @cached_property
    def digest(self) -> str:
        return sha256(json.dumps([asdict(c) for c in self.criteria], sort_keys=True).encode()).hexdigest()[:12]

    @property
    def maximum(self) -> int:
        return sum(c.points for c in self.criteria)

    def share(self, verdicts: Sequence[bool]) -> float:
        """Points of the criteria that are met, of all points."""
        return sum(c.points for c, met in zip(self.criteria, verdicts, strict=True) if met) / self.maximum
