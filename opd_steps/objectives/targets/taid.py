from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.targets import Target


@dataclass(frozen=True)
class TAID(Target):
    """softmax((1 - t) sg[z_q] + t z_p): a teacher that starts near the student; t = 1 is p (arXiv 2501.16937).

    Log-probs stand for logits z: they differ by a constant per state, which the softmax removes. The controller `taid` moves t.
    """

    TEACHER: ClassVar[str] = "full"

    t: Annotated[float, "0 to 1"] = 0.4

    def of(self, q: Categorical, evidence: Evidence) -> Categorical:
        mixed_NV = (1 - self.t) * q.logp_NV.detach() + self.t * evidence.teacher.logp_NV
        return Categorical(torch.log_softmax(mixed_NV, -1))
