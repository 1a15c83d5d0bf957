"""When something happens: two times, by how much they overlap with the right ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from opd_steps.tasks.verifiers import Verifier

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Interval(Verifier):
    """Intersection over union, 0 to 1, of the interval that a completion names and the answer's, each the first two numbers of its text
    (seconds from the beginning, start and end). A completion without two numbers, or whose end is not behind its start, has 0.
    """

    def score(self, completion: str, answer: str) -> float:
        said = interval(completion)
        return iou(said, interval(answer)) if said else 0.0

    def unreadable(self, answer: str) -> str:
        return "" if interval(answer) else "names no interval: expected two numbers, start before end"


def interval(text: str) -> tuple[float, float] | None:
    found = [float(number) for number in _NUMBER.findall(text)[:2]]
    return (found[0], found[1]) if len(found) == 2 and found[0] < found[1] else None


def iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    """|a and b| / |a or b|."""
    shared = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)
