from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.loop.batches import sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class Student(PrefixSource):
    """Fresh samples of the student itself: on-policy."""

    OWN: ClassVar[bool] = True
    UNCARRIED: ClassVar[str] = ""

    def rows(self, draw: Draw) -> Batch:
        return sampled_rows(draw.learner, draw.pool, draw.picks, draw.n, draw.step, draw.seed, "rollout", version=draw.version)
