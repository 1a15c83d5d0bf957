from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class ZScore(Transform):
    """(r - mean) / std of the log-ratio over the batch's tokens: it turns signs; a control of PowerOPD (arXiv 2606.17199).

    For the log-ratio signal without a baseline.
    """

    TEACHER: ClassVar[str] = "sampled"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    LOG_RATIO: ClassVar[bool] = True

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        return {"r": evidence.log_ratio(q)}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        r_N = found["r"]
        std = r_N.std() if len(r_N) > 1 else 0.0  # of one token there is none
        return (r_N - r_N.mean()) / (std + 1e-6) - r_N, {}
