from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.where import Where


@dataclass(frozen=True)
class MoreLikelyBy(Where):
    """1[ log p_first(a) > log p_second(a) ]: the sampled action is more likely under one teacher than under another;
    `more: false`, the other decision points. Two terms with both make a router. share: of the decision points."""

    OTHERS: ClassVar[dict] = {"first": "sampled", "second": "sampled"}
    METRICS: ClassVar[tuple[str, ...]] = ("share",)

    first: str
    second: str
    more: bool = True

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        logp = [evidence.others[name].logp(evidence.action_N) for name in (self.first, self.second)]
        return {"gap": logp[0] - logp[1]}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        mask_N = (found["gap"] > 0) == self.more
        return mask_N, {"share": float(mask_N.float().mean())}
