from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from opd_steps.nouns.dist import DiagGaussian
from opd_steps.objectives.signals import Signal

MAX_LOG = 80.0  # exp() of it is finite in fp32


@dataclass(frozen=True)
class ForwardKL(Signal):
    """KL(p||q) = sum_v p_v (log p_v - log q_v): mass-covering; on teacher prefixes, SFT with soft targets.

    reward: p_v / q_v, heavy-tailed where the student has hardly any mass.
    """

    def term(self, logq: Tensor, logp: Tensor) -> Tensor:
        return logp.exp() * (logp - logq)

    def reward(self, logq: Tensor, logp: Tensor) -> Tensor:
        return (logp - logq).clamp(max=MAX_LOG).exp()

    def gaussian(self, q: DiagGaussian, p: DiagGaussian) -> Tensor:
        return p.kl(q)
