from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class ReturnToGo(Transform):
    """sum_{t' >= t} gamma^(t'-t) r_t' in place of r_t: the sequence-level reverse KL (MiniLLM, arXiv 2306.08543).

    own: false      leaves r_t itself out, where another term takes its exact expectation (single-step decomposition)
    length_norm     divides the future by its number of tokens
    gamma 0 is the token-level signal. For the log-ratio signal without a baseline.
    """

    TEACHER: ClassVar[str] = "sampled"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    LOG_RATIO: ClassVar[bool] = True

    gamma: Annotated[float, "0 to 1"] = 1.0
    own: bool = True
    length_norm: bool = False

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        return {"r": evidence.log_ratio(q)}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        shifts = []
        for r_T in found["r"].split(rows.length_B.tolist()):
            future_T, ahead = torch.zeros_like(r_T), 0.0
            for t in range(len(r_T) - 2, -1, -1):
                ahead = self.gamma * (float(r_T[t + 1]) + ahead)
                future_T[t] = ahead / (len(r_T) - t - 1) if self.length_norm else ahead
            shifts.append(future_T if self.own else future_T - r_T)
        return torch.cat(shifts), {}
