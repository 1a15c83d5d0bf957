from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from opd_steps.objectives.signals import Signal
from opd_steps.objectives.signals.fkl import ForwardKL
from opd_steps.objectives.signals.rkl import ReverseKL


@dataclass(frozen=True)
class Mix(Signal):
    """weight KL(q||p) + (1 - weight) KL(p||q): a linear mixture of both directions (arXiv 2605.16826)."""

    weight: Annotated[float, "0 to 1"] = 0.5

    def term(self, logq: Tensor, logp: Tensor) -> Tensor:
        return self.weight * ReverseKL().term(logq, logp) + (1 - self.weight) * ForwardKL().term(logq, logp)

    def reward(self, logq: Tensor, logp: Tensor) -> Tensor:
        return self.weight * ReverseKL().reward(logq, logp) + (1 - self.weight) * ForwardKL().reward(logq, logp)
