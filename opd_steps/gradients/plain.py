from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from opd_steps.gradients import Gradient
from opd_steps.nouns.gradient import GradientWork


@dataclass(frozen=True)
class Plain(Gradient):
    """The gradient as it is: the sum over all rows."""

    UNCARRIED: ClassVar[str] = ""

    def make(self, model: torch.nn.Module, seed: int, updates: int) -> GradientWork:
        return GradientWork()
