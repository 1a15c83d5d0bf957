from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from opd_steps.nouns.dist import Categorical, StepDist
from opd_steps.objectives.baselines import Baseline


@dataclass(frozen=True)
class NoBaseline(Baseline):
    """b = 0."""

    def value_N(self, q: StepDist, p: StepDist | None, signal: Any) -> Tensor:
        return (q.logp_NV if isinstance(q, Categorical) else q.mean_ND).new_zeros(len(q))
