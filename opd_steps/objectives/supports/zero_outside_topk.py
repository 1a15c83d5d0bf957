from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical, Recorded
from opd_steps.objectives.supports import Support
from opd_steps.objectives.supports._selected import Selected, topk


@dataclass(frozen=True)
class ZeroOutsideTopk(Support):
    """The whole vocabulary against a teacher cut to its k likeliest tokens: renormalised there, log p = floor elsewhere.

    NeMo RL's `zero_outside_topk: true` (github.com/NVIDIA-NeMo/RL, DistillationLossFn: log of an infinitesimal = -100).
    Its "correction" of reverse KL by the entropy and mass outside makes the sum the exact KL(q||p^) to the cut teacher p^,
    not to the teacher: each unit of student mass outside the set costs about 100 nats, also at q = p.
    """

    TEACHER: ClassVar[str] = "topk"

    k: Annotated[int, "at least 1"] = 64
    floor: Annotated[float, "below 0"] = -100.0  # nats; stands for log 0

    def select(self, q: Categorical, p: Categorical | Recorded, action_N: Tensor | None = None) -> Selected:
        logp_NK, ids_NK = topk(p, self.k)
        inside_NK = logp_NK.detach().log_softmax(-1)
        logp_NV = torch.full_like(q.logp_NV.detach(), self.floor).scatter(-1, ids_NK, inside_NK.to(q.logp_NV.dtype))
        return Selected(q.logp_NV, logp_NV, None)
