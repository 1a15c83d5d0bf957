from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from opd_steps.config.plugs import plug
from opd_steps.objectives.signals import Signal


@dataclass(frozen=True)
class Capped(Signal):
    """sum_v min(D_v, cap): each token's summand of the divergence `of` counts for at most `cap` nats, so that no few tokens of style
    rule the gradient; one at the cap has none (OPSD's pointwise clipping, arXiv 2601.18734). `cap` above every summand is `of` itself.
    reward: that of `of`, 0 at the cap.
    """

    of: Any = plug("objectives/signals", "jsd")
    cap: Annotated[float, "above 0"] = 0.05  # nats

    def term(self, logq: Tensor, logp: Tensor) -> Tensor:
        return self.of.term(logq, logp).clamp(max=self.cap)

    def reward(self, logq: Tensor, logp: Tensor) -> Tensor:
        return self.of.reward(logq, logp).masked_fill(self.of.term(logq, logp) >= self.cap, 0.0)
