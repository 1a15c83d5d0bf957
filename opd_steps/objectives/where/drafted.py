from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.where import Where


@dataclass(frozen=True)
class Drafted(Where):
    """Tokens of a draft by what became of them (Draft-OPD, arXiv 2605.29343): `accepted` by the target; `rejected`, the first wrong one and
    all behind it; `first`, that one alone. accepted_tokens: mean number of tokens that a block was right for.
    """

    SURVEY: ClassVar[bool] = False
    METRICS: ClassVar[tuple[str, ...]] = ("accepted_tokens",)

    tokens: Literal["accepted", "rejected", "first"] = "accepted"

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        accepted_B = torch.tensor(rows.extra["accepted"])
        offset_N = rows.step_N - accepted_B[rows.owner_N]
        mask_N = {"accepted": offset_N < 0, "rejected": offset_N >= 0, "first": offset_N == 0}[self.tokens]
        return mask_N, {"accepted_tokens": float(accepted_B.double().mean())}
