from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight
from opd_steps.seeds import rng


@dataclass(frozen=True)
class Balance(Weight):
    """Per prompt, rows of the more frequent outcome are left out at random until correct : wrong is 1 : 1 (Uni-OPD, arXiv 2605.03677).

    A group with one outcome alone stays as it is.
    """

    ROWS: ClassVar[str] = "groups"
    WIDE: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("balanced_out",)

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        keep_B = torch.ones(len(rows))
        correct_B = rows.reward_B >= 0.5
        for prompt in rows.prompt_B.unique().tolist():
            group = (rows.prompt_B == prompt).nonzero()[:, 0]
            right, wrong = group[correct_B[group]], group[~correct_B[group]]
            if len(right) and len(wrong):
                more, fewer = (right, wrong) if len(right) > len(wrong) else (wrong, right)
                order = rng(moment.seed, "balance", moment.step, prompt).permutation(len(more))
                keep_B[more[torch.from_numpy(order[len(fewer) :])]] = 0.0
        return keep_B[rows.owner_N], {"balanced_out": float(1 - keep_B.mean())}
