"""A walk on a graph, and where a wrong one goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar

from opd_steps.tasks.errands import Errand
from opd_steps.tasks.verifiers.walk import Walk


@dataclass(frozen=True)
class WalkFeedback(Walk):
    """As `walk`; of a wrong completion it says (feedback) in the task's own characters `bc:x`, every step to b and c was an edge, and
    none leads on to x; or `bcj>k`, all were, and it did not come to k, or it did not end there."""

    METRICS: ClassVar[dict[str, str]] = {"legal_moves": "up", "way_point": "up", "detour": "down"}
    SPEAKS: ClassVar[bool] = True

    def feedback(self, completion: str, answer: str) -> str:
        errand, walk = Errand.read(answer), completion.strip()
        legal = walk[: sum(1 for _ in takewhile(bool, errand.legal(walk)))]
        if len(legal) < len(walk):
            return f"{legal}:{walk[len(legal)]}"
        missed = errand.stops[errand.met(walk) :] or errand.stops[-1]
        return f"{legal}>{missed[0]}"
