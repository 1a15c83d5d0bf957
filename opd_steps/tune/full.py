from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from opd_steps.tune import Tune


@dataclass(frozen=True)
class Full(Tune):
    """All weights of the model."""

    ADAPTS: ClassVar[bool] = False
    UNCARRIED: ClassVar[str] = ""

    def adapt(self, model: nn.Module, seed: int) -> None:
        model.requires_grad_(True)
