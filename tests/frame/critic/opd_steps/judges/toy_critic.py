from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from opd_steps.judges import Judge
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.trajectory import Trajectory


@dataclass(frozen=True)
class ToyCritic(Judge):
    """The reward is how real the critic finds the row: its probability of 1."""

    METRICS: ClassVar[tuple[str, ...]] = ("realness",)

    learner: str = "critic"

    @torch.no_grad()
    def judge(self, rows: Trajectory, bench: Bench) -> tuple[Trajectory, dict[str, float]]:
        whole = [[*c, *a.tolist()] for c, a in zip(rows.contexts, rows.actions, strict=True)]
        asked = Trajectory(whole, [torch.tensor([1])] * len(rows), rows.prompt_B)
        real_B = bench.learners[self.learner].dist(asked).logp(asked.action_N).exp()
        return rows.with_columns(reward_B=real_B), {"realness": float(real_B.mean())}
