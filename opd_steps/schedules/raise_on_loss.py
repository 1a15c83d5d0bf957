from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from opd_steps.schedules import Schedule


@dataclass(frozen=True)
class RaiseOnLoss(Schedule):
    """value <- min(last, value + step) when the mean loss of `every` steps is at least that of before + eps.

    DistiLLM's adaptive share of student samples (arXiv 2402.03898; there the loss of a development set, here the training
    loss). Before: the window at the last raise, the first one to begin with (since: raise, as in the released code), or
    the window just before this one (since: previous), which also raises the value where the loss has ceased to fall.
    """

    VALUES: ClassVar[tuple[str, ...]] = ("last",)  # options that hold values of what it sets
    READS: ClassVar[tuple[str, ...]] = ("loss",)

    sets: str
    last: Annotated[float, "any"] = 1.0
    step: Annotated[float, "above 0"] = 0.1
    every: Annotated[int, "at least 1"] = 20  # steps of a window
    eps: Annotated[float, "at least 0"] = 0.1
    since: Literal["raise", "previous"] = "raise"

    def start(self, now: float) -> tuple[float, dict]:
        return now, {"sum": 0.0, "before": None}

    def after(self, step: int, steps: int, metrics: dict[str, float], now: float, state: dict) -> tuple[float, dict]:
        total, before = state["sum"] + metrics["train/loss"], state["before"]
        if step % self.every:
            return now, {"sum": total, "before": before}
        mean = total / self.every
        rises = before is not None and mean >= before + self.eps
        kept = before if before is not None and self.since == "raise" and not rises else mean
        return min(self.last, now + self.step) if rises else now, {"sum": 0.0, "before": kept}
