from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from opd_steps.objectives.signals import Signal


@dataclass(frozen=True)
class CorrectedReverseKL(Signal):
    """Generalised reverse KL: sum_v q_v log(q_v / p_v) - q_v + p_v, at least 0 and 0 at q = p alone on any set of tokens (MOPD,
    arXiv 2606.30406, on the teacher's top-k).

    Over the whole vocabulary it is KL(q||p); on a raw top-k set the plain sum falls as mass leaves the set, and this one does not.
    reward: log p_v - log q_v.
    """

    def term(self, logq: Tensor, logp: Tensor) -> Tensor:
        return logq.exp() * (logq - logp - 1) + logp.exp()

    def reward(self, logq: Tensor, logp: Tensor) -> Tensor:
        return logp - logq
