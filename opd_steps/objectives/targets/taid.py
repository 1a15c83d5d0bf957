from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals._mixture import check_share


@dataclass(frozen=True)
class TAID:
    """softmax((1 - t) sg[z_q] + t z_p): a teacher that starts near the student; t = 1 is p (arXiv 2501.16937).

    Log-probs stand for logits z: they differ by a constant per state, which the softmax removes. The controller `taid` moves t.
    """

    TEACHER: ClassVar[str] = "full"

    t: float = 0.4

    def __post_init__(self) -> None:
        check_share("t", self.t)

    def of(self, q: Categorical, evidence: Evidence) -> Categorical:
        mixed_NV = (1 - self.t) * q.logp_NV.detach() + self.t * evidence.teacher.logp_NV
        return Categorical(torch.log_softmax(mixed_NV, -1))
