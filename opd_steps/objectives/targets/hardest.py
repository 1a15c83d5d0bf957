from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.targets import Target


@dataclass(frozen=True)
class Hardest(Target):
    """1[ a = argmax p ]: the one action that the teacher likes best, as a label. With signal fkl it is hard cross-entropy on the
    student's own states, DAgger's loss (arXiv 1011.0686): of how sure the teacher was, nothing is left.
    """

    TEACHER: ClassVar[str] = "full"

    floor: Annotated[float, "below 0"] = -100.0  # nats; stands for log 0

    def of(self, q: Categorical, evidence: Evidence) -> Categorical:
        logp_NV = evidence.teacher.logp_NV
        return Categorical(torch.full_like(logp_NV, self.floor).scatter(-1, logp_NV.argmax(-1, keepdim=True), 0.0))
