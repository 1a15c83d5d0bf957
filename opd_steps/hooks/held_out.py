from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from opd_steps.hooks import HookPlug, Setting
from opd_steps.hooks._asked import answers, nll
from opd_steps.loop import milestones
from opd_steps.nouns.hook import Hook

_ROWS = 64  # of written texts, read at once


@dataclass(frozen=True)
class HeldOut(HookPlug):
    """Every `every` steps, and after the last, the policy is measured on prompts that it does not train on: train/held, and the best
    so far as train/held_best.

    measure: reward   the mean outcome of `samples` answers a prompt, with the same seeds each time; more is better
    measure: nll      mean nats a token of the data's `column`; less is better
    best              keep the model of the best measurement, the first of equals: others read it as `node:best`
    patience          measurements without a better one, after which the training ends; 0 = it never does

    What is chosen by a split is not to be judged by it: evaluate on another one.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("held", "held_best")
    PROMPTS: ClassVar[bool] = True
    SAMPLES: ClassVar[bool] = True
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds", "tasks/verifiers")

    split: Literal["test", "ood"]
    every: Annotated[int, "at least 1"] = 50  # steps
    prompts: Annotated[int, "at least 0"] = 128  # the first of the split; 0 = all
    measure: Literal["reward", "nll"] = "reward"
    column: str = "solution"  # of nll
    samples: Annotated[int, "at least 1"] = 1  # answers a prompt
    temperature: Annotated[float, "at least 0"] = 0.0  # of the answers; 0 = greedy
    max_new_tokens: Annotated[int, "at least 0"] = 0  # of an answer; 0 = as the node samples
    patience: Annotated[int, "at least 0"] = 0
    best: bool = False

    def make(self, setting: Setting) -> _Watch:
        return _Watch(self, setting)


class _Watch(Hook):
    """Its state: the best measurement, and how many came after it."""

    def __init__(self, options: HeldOut, setting: Setting):
        self.options, self.setting = options, setting
        self.pool = setting.held(options.split, options.prompts)
        self.written = self.pool.written(options.column) if options.measure == "nll" else None
        self.best, self.worse = -math.inf, 0
        self.sign = -1.0 if options.measure == "nll" else 1.0

    @property
    def over(self) -> bool:
        return 0 < self.options.patience <= self.worse

    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        if step % self.options.every and step != self.setting.steps:
            return
        found = self._measured(policy, step)
        if self.sign * found > self.best:
            self.best, self.worse = self.sign * found, 0
            if self.options.best:
                milestones.write(self.setting.work, milestones.BEST, policy)
        else:
            self.worse += 1
        metrics |= {"train/held": found, "train/held_best": self.sign * self.best}
        if self.over:
            print(
                f"step {step}: no better than {self.sign * self.best:.4g} for {self.worse} measurements; it ends here",
                flush=True,
            )

    def _measured(self, policy, step: int) -> float:
        o = self.options
        if self.written:
            return nll(policy, self.written, _ROWS)
        rows = answers(policy, self.pool, o.samples, o.temperature, o.max_new_tokens, step, self.setting.seed, "held", o.split)
        return sum(rows.reward_B.tolist()) / len(rows)

    def state_dict(self) -> dict:
        return {"best": self.best, "worse": self.worse} if math.isfinite(self.best) else {}

    def load_state_dict(self, state: dict) -> None:
        self.best, self.worse = state.get("best", -math.inf), state.get("worse", 0)
