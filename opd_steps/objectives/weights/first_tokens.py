from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class FirstTokens(Weight):
    """1[ t < length ]: the first tokens of a response alone (arXiv 2602.15260). Stopping the rollout there as well saves its cost."""

    length: Annotated[int, "at least 1"] = 16  # tokens

    def weight_N(self, q: StepDist, evidence: Evidence) -> Tensor:
        return (evidence.step_N < self.length).float()
