from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from opd_steps.schedules import Schedule


@dataclass(frozen=True)
class EntropyGate(Schedule):
    """Stage values L_0 < L_1 < ...: after `every` steps go on to the next while the student's mean entropy is at least h_min.

    The first stage that ends below it was one too far: the value goes back to that of the stage before, the last stable one, for
    good; the first stage has none before it. The entropy is that of the stage's last step, on prompts that were not trained on
    before (arXiv 2605.16826; h_min is not disclosed there).
    """

    VALUES: ClassVar[tuple[str, ...]] = ("stages",)  # options that hold values of what it sets
    CHECKS: ClassVar[tuple[str, ...]] = ("len(stages) >= 2", "stages == sorted(stages)")

    sets: str
    stages: Annotated[list[int], "any"] = field(default_factory=list)
    every: Annotated[int, "at least 1"] = 20  # steps
    h_min: Annotated[float, "at least 0"] = 0.05  # nats

    def start(self, now: int) -> tuple[int, dict]:
        return self.stages[0], {"stage": 0, "stopped": False}

    def after(self, step: int, steps: int, metrics: dict[str, float], now: int, state: dict) -> tuple[int, dict]:
        stage, stopped = state["stage"], state["stopped"]
        if step % self.every == 0 and not stopped and stage + 1 < len(self.stages):
            stopped = metrics["train/entropy"] < self.h_min
            stage = max(stage - 1, 0) if stopped else stage + 1
        return self.stages[stage], {"stage": stage, "stopped": stopped}
