from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight
from opd_steps.objectives.weights._share import top_share


@dataclass(frozen=True)
class EntropyTop(Weight):
    """1 on the `share` of the batch's tokens with the highest student entropy, 0 on the others (REOPOLD's phase II, arXiv 2603.11137)."""

    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True

    share: Annotated[float, "above 0, at most 1"] = 0.2

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        return {"entropy": q.entropy()}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        return top_share(found["entropy"], self.share), {}
