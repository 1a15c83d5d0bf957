from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class FlowTime(Weight):
    """What a step of a flow counts, from the times sigma -> sigma' that its rows hold (column `sigmas`), dt = sigma' - sigma:

    velocity   2 / dt^2: the halved squared distance of two ODE steps becomes |v_S - v_T|^2 (D-OPSD, arXiv 2605.05204)
    image      2 sigma^2 / dt^2: that of the images that they predict, x - sigma v (D-OPSD's released code)
    drift      -dt: KL between SDE steps as (mean_S - mean_T)^2 / (2 s^2), without dt (Flow-OPD's released code, arXiv 2605.08063)
    """

    WIDE: ClassVar[bool] = True

    space: Literal["velocity", "image", "drift"] = "velocity"

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        sigma_N, next_N = torch.cat(list(rows.extra["sigmas"])).unbind(1)
        dt_N = next_N - sigma_N
        weight_N = {"velocity": 2 / dt_N.square(), "image": 2 * (sigma_N / dt_N).square(), "drift": -dt_N}[self.space]
        return weight_N, {}
