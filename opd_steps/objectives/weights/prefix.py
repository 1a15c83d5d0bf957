from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class Prefix:
    """1[ t < length ]: the first tokens of a response alone (arXiv 2602.15260). Stopping the rollout there as well saves its cost."""

    TEACHER: ClassVar[str] = "none"

    length: int = 16  # tokens

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length is at least 1, found {self.length}")

    def weight_N(self, q: StepDist, evidence: Evidence) -> Tensor:
        return (evidence.step_N < self.length).float()
