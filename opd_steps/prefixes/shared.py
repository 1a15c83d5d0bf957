from __future__ import annotations

from dataclasses import dataclass

from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class Shared(PrefixSource):
    """The rows that another learner of the node got at this step; "" is the student. It comes before this one."""

    learner: str = ""

    def rows(self, draw: Draw) -> Batch:
        return draw.made[self.learner]
