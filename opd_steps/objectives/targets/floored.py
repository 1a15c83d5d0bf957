from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical, Recorded, StepDist
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.targets import Target


@dataclass(frozen=True)
class Floored(Target):
    """(1 - share) p + share / V: nothing is impossible to the teacher. An option of ours for Lightning OPD (arXiv 2604.13010).

    Its loss is the squared error of the sampled tokens' log-probs, which a few tokens that a sharp teacher rules out would dominate:
    here no log-prob is below log(share / V). Of a scores table what is known is floored: the sampled token, and the top k if any.
    """

    share: Annotated[float, "above 0, below 1"] = 0.05

    def of(self, q: StepDist, evidence: Evidence) -> StepDist:
        p, vocab = evidence.teacher, q.logp_NV.shape[-1]
        if isinstance(p, Categorical):
            return Categorical(self._floored(p.logp_NV, vocab))
        topk = None if p.topk_logp_NK is None else self._floored(p.topk_logp_NK, vocab)
        return Recorded(self._floored(p.action_logp_N, vocab), p.topk_ids_NK, topk)

    def _floored(self, logp: Tensor, vocab: int) -> Tensor:
        return torch.logaddexp(logp + math.log1p(-self.share), torch.full_like(logp, math.log(self.share / vocab)))
