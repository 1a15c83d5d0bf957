"""Which tokens a term looks at, at each decision point."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.nouns.dist import StepDist
    from opd_steps.objectives.supports._selected import Selected


class Support(Protocol):
    """Picks the tokens of a term.

    TEACHER   what it asks of the teacher: sampled (the action's log-prob), topk (its option `k` likeliest tokens) or full (any token)
    """

    TEACHER: ClassVar[str]

    @abstractmethod
    def select(self, q: StepDist, p: StepDist | None, action_N: Tensor) -> Selected:
        """Log-probs of student `q` and teacher `p` on the tokens; `action_N`: the ones that were sampled."""
