from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.targets import Target


@dataclass(frozen=True)
class TrustRegion(Target):
    """softmax((1 - mix) z_start + mix z_p): the teacher p, no further from another one than a share of the way (SDPO, arXiv 2601.20802).

    There p is the student as it stands and `start` as it began, both with the same in view; `start` names a teacher of the node.
    Log-probs stand for logits z: they differ by a constant per state, which the softmax removes. mix = 1 is p, mix = 0 is `start`.
    """

    TEACHER: ClassVar[str] = "full"
    OTHERS: ClassVar[dict] = {"start": "full"}

    start: str
    mix: Annotated[float, "0 to 1"] = 0.05

    def of(self, q: Categorical, evidence: Evidence) -> Categorical:
        mixed_NV = torch.lerp(evidence.others[self.start].logp_NV, evidence.teacher.logp_NV, self.mix)
        return Categorical(torch.log_softmax(mixed_NV, -1))
