from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.jsd import JSD
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight
from opd_steps.objectives.weights._share import top_share
from opd_steps.seeds import rng


@dataclass(frozen=True)
class TIP(Weight):
    """Keep the `share` of the batch's tokens of highest importance s = h + d - h d (TIP, arXiv 2604.14084).

    h = H(q) / ln V, the student's normalised entropy; d = JSD(p, q) / ln 2. So uncertain tokens are kept, and confidently
    wrong ones (low h, high d). by: "entropy" ranks by h alone, "random" keeps as many at random: the paper's controls.
    """

    TEACHER: ClassVar[str] = "full"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True

    share: Annotated[float, "above 0, at most 1"] = 0.5
    by: Literal["importance", "entropy", "random"] = "importance"

    def survey(self, q: Categorical, evidence: Evidence) -> dict[str, Tensor]:
        h_N = q.entropy() / math.log(q.logp_NV.shape[-1])
        d_N = JSD(0.5).term(q.logp_NV, evidence.teacher.logp_NV).sum(-1) / math.log(2)
        return {"entropy": h_N, "importance": h_N + d_N - h_N * d_N}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        if self.by == "random":
            return top_share(torch.from_numpy(rng(moment.seed, "tip", moment.step).random(len(rows.action_N))), self.share), {}
        return top_share(found[self.by], self.share), {}
