from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class Verified(Weight):
    """1[ the row's reward is at least 1/2 ]: a rejected one counts for nothing, and stays in the mean's denominator (d-OPSD, arXiv
    2606.18195). verified: the share of rows that count. Raises UserError for rows that nobody judged.
    """

    WIDE: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("verified",)

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        if rows.reward_B is None or rows.reward_B.isnan().any():
            raise UserError("method.weight", "verified asks how each row was judged, and some of these rows were not")
        right_B = (rows.reward_B >= 0.5).float()
        return right_B[rows.owner_N], {"verified": float(right_B.mean())}
