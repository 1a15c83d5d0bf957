from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.baselines import Baseline


@dataclass(frozen=True)
class Optimal(Baseline):
    """The state-only baseline of least logit-gradient variance: b = E_q[|e_v - q|^2 r_v] / E_q[|e_v - q|^2].

    |e_v - q|^2 = 1 - 2 q_v + sum_u q_u^2 is the squared norm of the gradient of log q_v with respect to the logits.
    """

    TEACHER: ClassVar[str] = "full"

    @torch.no_grad()
    def value_N(self, q: Categorical, p: Categorical, signal: Any) -> Tensor:
        q_NV = q.logp_NV.exp()
        others_NV = (q_NV.square().sum(-1, keepdim=True) - q_NV.square()).clamp(min=0)
        weight_NV = q_NV * ((1 - q_NV).square() + others_NV)  # q_v |e_v - q|^2, without cancellation at q_v = 1
        reward_NV = signal.reward(q.logp_NV, p.logp_NV)
        return (weight_NV * reward_NV).sum(-1) / weight_NV.sum(-1).clamp(min=torch.finfo(q_NV.dtype).tiny)
