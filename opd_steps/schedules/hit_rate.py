from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.schedules import Schedule


@dataclass(frozen=True)
class HitRate(Schedule):
    """Prune-OPD's rollout length (arXiv 2605.07804): up by `step` when the share of rows that use the length is at least `share`,
    down by `step` after `patience` misses in a row; within low .. high.

    The share is train/prune_hits of the weight `overlap_decay`.
    """

    READS: ClassVar[tuple[str, ...]] = ("prune_hits",)  # curves
    VALUES: ClassVar[tuple[str, ...]] = ("low", "high")  # options that hold values of what it sets
    CHECKS: ClassVar[tuple[str, ...]] = ("low <= high",)

    sets: str
    low: Annotated[int, "at least 1"]
    high: Annotated[int, "at least 1"]
    step: Annotated[int, "at least 1"] = 100  # tokens
    share: Annotated[float, "0 to 1"] = 0.1
    patience: Annotated[int, "at least 1"] = 3

    def start(self, now: int) -> tuple[int, dict]:
        return min(max(now, self.low), self.high), {"misses": 0}

    def after(self, step: int, steps: int, metrics: dict[str, float], now: int, state: dict) -> tuple[int, dict]:
        if metrics["train/prune_hits"] >= self.share:
            return min(now + self.step, self.high), {"misses": 0}
        misses = state["misses"] + 1
        if misses < self.patience:
            return now, {"misses": misses}
        return max(now - self.step, self.low), {"misses": 0}
