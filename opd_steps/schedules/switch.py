from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from opd_steps.schedules import Schedule


@dataclass(frozen=True)
class Switch(Schedule):
    """The option takes the value `to` after a share `at` of the steps: a second phase (REOPOLD, arXiv 2603.11137; PACED, 2603.11178)."""

    VALUES: ClassVar[tuple[str, ...]] = ("to",)  # options that hold values of what it sets

    sets: str
    to: Any
    at: Annotated[float, "above 0, below 1"] = 0.5  # share of the node's steps

    def start(self, now: Any) -> tuple[Any, dict]:
        return now, {}

    def after(self, step: int, steps: int, metrics: dict[str, float], now: Any, state: dict) -> tuple[Any, dict]:
        return (self.to if step >= self.at * steps else now), state
