from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from opd_steps.objectives.signals import Signal


@dataclass(frozen=True)
class Power(Signal):
    """r_v = p_v^alpha - q_v^alpha: bounded in [-1, 1], of the log-ratio's sign; r / alpha tends to log p - log q as alpha -> 0.

    The only interior fixed point of its policy gradient is p = q (PowerOPD, arXiv 2606.17199; alpha .1 ... 500 there).
    """

    KIND: ClassVar[str] = "reward"

    alpha: Annotated[float, "above 0"] = 5.0

    def reward(self, logq: Tensor, logp: Tensor) -> Tensor:
        return (self.alpha * logp).exp() - (self.alpha * logq).exp()
