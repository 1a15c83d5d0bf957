from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from opd_steps.objectives.signals import Signal
from opd_steps.objectives.signals._mixture import log_mixture
from opd_steps.objectives.signals.fkl import ForwardKL
from opd_steps.objectives.signals.rkl import ReverseKL


@dataclass(frozen=True)
class JSD(Signal):
    """Generalised Jensen-Shannon: beta KL(p||M) + (1-beta) KL(q||M), M = beta p + (1-beta) q (GKD, arXiv 2306.13649).

    beta = 0 is switched to KL(p||q) and beta = 1 to KL(q||p), as in all published code; the formula itself tends to 0 there.
    reward: (1-beta) (log M_v - log q_v).
    """

    beta: Annotated[float, "0 to 1"] = 0.5

    def term(self, logq: Tensor, logp: Tensor) -> Tensor:
        if self.beta in (0, 1):
            return self._end.term(logq, logp)
        logm = log_mixture(self.beta, logp, logq)
        return self.beta * logp.exp() * (logp - logm) + (1 - self.beta) * logq.exp() * (logq - logm)

    def reward(self, logq: Tensor, logp: Tensor) -> Tensor:
        if self.beta in (0, 1):
            return self._end.reward(logq, logp)
        return (1 - self.beta) * (log_mixture(self.beta, logp, logq) - logq)

    @property
    def _end(self) -> ForwardKL | ReverseKL:
        return ReverseKL() if self.beta else ForwardKL()
