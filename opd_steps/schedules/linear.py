from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.schedules import Schedule


@dataclass(frozen=True)
class Linear(Schedule):
    """first + (last - first) * min(1, t / over), t the share of the steps done: an anneal, or a growing length.

    Whole numbers stay whole (rounded down). KDRL's coefficient falls so (arXiv 2506.02208), Prefix OPD's length grows (2602.15260).
    """

    VALUES: ClassVar[tuple[str, ...]] = ("first", "last")  # options that hold values of what it sets

    sets: str
    first: Annotated[float, "any"]
    last: Annotated[float, "any"]
    over: Annotated[float, "above 0, at most 1"] = 1.0  # share of the node's steps

    def start(self, now: float) -> tuple[float, dict]:
        return self._at(0.0, now), {}

    def after(self, step: int, steps: int, metrics: dict[str, float], now: float, state: dict) -> tuple[float, dict]:
        return self._at(step / steps, now), state

    def _at(self, done: float, now: float) -> float:
        value = self.first + (self.last - self.first) * min(1.0, done / self.over)
        return int(value + 1e-9) if isinstance(now, int) else value
