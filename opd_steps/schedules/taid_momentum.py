from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.schedules import Schedule


@dataclass(frozen=True)
class TAIDSchedule(Schedule):
    """t <- min(last, max(linear, t + rate * sigmoid(m) * (1 - t))), m the momentum of the loss's relative drop (arXiv 2501.16937).

    linear runs from first to last over the node's steps; m <- momentum * m + (1 - momentum) * (L_old - L) / L_old.
    t never falls, and never lies below the linear schedule.
    """

    VALUES: ClassVar[tuple[str, ...]] = ("first", "last")  # options that hold values of what it sets
    CHECKS: ClassVar[tuple[str, ...]] = ("first <= last",)

    sets: str = "method.target.t"
    first: Annotated[float, "0 to 1"] = 0.4
    last: Annotated[float, "0 to 1"] = 1.0
    rate: Annotated[float, "at least 0"] = 5e-4
    momentum: Annotated[float, "at least 0, below 1"] = 0.99

    def start(self, now: float) -> tuple[float, dict]:
        return self.first, {"loss": None, "momentum": 0.0}

    def after(self, step: int, steps: int, metrics: dict[str, float], now: float, state: dict) -> tuple[float, dict]:
        loss, m = metrics["train/loss"], state["momentum"]
        if state["loss"] is not None:
            drop = (state["loss"] - loss) / (state["loss"] + 1e-15)
            m = self.momentum * m + (1 - self.momentum) * drop
        linear = self.first + (self.last - self.first) * step / steps
        adaptive = now + self.rate * _sigmoid(m) * (1 - now)
        return min(self.last, max(linear, adaptive, now)), {"loss": loss, "momentum": m}


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
