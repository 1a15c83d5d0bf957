from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class DraftDecay(Weight):
    """gamma^(offset - 1), offset counted from the first wrong token of a draft, which has 1: what follows an error matters less the
    further it is behind it (Draft-OPD, arXiv 2605.29343). 1 for what was accepted.
    """

    WIDE: ClassVar[bool] = True

    gamma: Annotated[float, "above 0, at most 1"] = 0.8

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        behind_N = rows.step_N - torch.tensor(rows.extra["accepted"])[rows.owner_N]
        return self.gamma ** behind_N.clamp(min=0).float(), {}
