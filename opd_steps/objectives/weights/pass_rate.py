from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class PassRate(Weight):
    """w = r^alpha (1 - r)^beta of a prompt's pass rate r in the batch, scaled to mean 1 over the rows (PACED, arXiv 2603.11178).

    Prompts that are always or never solved weigh nothing. If all are, so does the step.
    """

    ROWS: ClassVar[str] = "groups"
    WIDE: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("weighty_prompts",)

    alpha: Annotated[float, "at least 0"] = 1.0
    beta: Annotated[float, "at least 0"] = 1.0

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        _, group_B, size_G = rows.prompt_B.unique(return_inverse=True, return_counts=True)
        rate_G = torch.zeros(len(size_G)).index_add(0, group_B, rows.reward_B.float()) / size_G
        weight_G = rate_G**self.alpha * (1 - rate_G) ** self.beta
        weight_B = weight_G[group_B]
        mean = weight_B.mean()
        weight_B = weight_B / mean if mean > 0 else weight_B
        return weight_B[rows.owner_N], {"weighty_prompts": float((weight_G > 0).float().mean())}
