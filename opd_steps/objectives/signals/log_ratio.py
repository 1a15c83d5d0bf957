from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from opd_steps.nouns.dist import DiagGaussian
from opd_steps.objectives.signals import Signal


@dataclass(frozen=True)
class LogRatio(Signal):
    """Reverse KL as a reward: r_v = log p_v - log q_v, so that E_q[r] = -KL(q||p). The signal of vanilla OPD.

    Positive where the teacher likes the token more. term: q (log q - log p), summed it is KL(q||p).
    """

    def term(self, logq: Tensor, logp: Tensor) -> Tensor:
        return logq.exp() * (logq - logp)

    def reward(self, logq: Tensor, logp: Tensor) -> Tensor:
        return logp - logq

    def gaussian(self, q: DiagGaussian, p: DiagGaussian) -> Tensor:
        return q.kl(p)
