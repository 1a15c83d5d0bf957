from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from opd_steps.objectives.signals import Signal
from opd_steps.objectives.signals._mixture import log_mixture
from opd_steps.objectives.signals.fkl import MAX_LOG


@dataclass(frozen=True)
class Skew(Signal):
    """Skewed KL (DistiLLM, arXiv 2402.03898); never above -log alpha.

    forward  KL(p || alpha p + (1-alpha) q)    reward (1-alpha) p_v / M_v
    reverse  KL(q || (1-alpha) p + alpha q)    reward log M_v - log q_v + alpha q_v / M_v
    """

    alpha: Annotated[float, "0 to 1"] = 0.1
    direction: Literal["forward", "reverse"] = "forward"

    def term(self, logq: Tensor, logp: Tensor) -> Tensor:
        own, other = (logp, logq) if self.direction == "forward" else (logq, logp)
        return own.exp() * (own - log_mixture(self.alpha, own, other))

    def reward(self, logq: Tensor, logp: Tensor) -> Tensor:
        if self.direction == "forward":
            logm = log_mixture(self.alpha, logp, logq)
            return (1 - self.alpha) * (logp - logm).clamp(max=MAX_LOG).exp()
        logm = log_mixture(self.alpha, logq, logp)
        share = self.alpha * (logq - logm).exp() if self.alpha else 0.0
        return logm - logq + share
