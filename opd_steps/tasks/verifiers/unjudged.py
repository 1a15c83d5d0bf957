"""Nobody judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class Unjudged(Verifier):
    """0 for every completion: of prompts without answers nothing can be known. Distillation asks for none; RL is refused."""

    JUDGES: ClassVar[bool] = False

    def score(self, completion: str, answer: str) -> float:
        return 0.0
