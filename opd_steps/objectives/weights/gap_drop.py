from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight
from opd_steps.objectives.weights._share import top_share


@dataclass(frozen=True)
class GapDrop(Weight):
    """0 on the `share` of the batch's tokens of highest (or lowest) A = |log p_first(a) - log p_second(a)|, 1 on the others: DOPD's
    ablation of tokens (arXiv 2606.30626)."""

    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    OTHERS: ClassVar[dict] = {"first": "sampled", "second": "sampled"}

    first: str
    second: str
    drop: Literal["highest", "lowest"] = "highest"
    share: Annotated[float, "above 0, below 1"] = 0.2

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        logp = [evidence.others[name].logp(evidence.action_N) for name in (self.first, self.second)]
        return {"gap": (logp[0] - logp[1]).abs()}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        gap_N = found["gap"]
        return 1 - top_share(gap_N if self.drop == "highest" else -gap_N, self.share), {}
