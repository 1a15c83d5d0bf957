from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource
from opd_steps.prefixes.dataset import Dataset
from opd_steps.prefixes.student import Student
from opd_steps.seeds import rng


@dataclass(frozen=True)
class Mixture(PrefixSource):
    """A step is on the student's own samples with probability `student_share`, else on the data set (GKD's lambda, arXiv 2306.13649)."""

    OWN: ClassVar[bool] = True

    SAMPLED: ClassVar[bool] = False
    TEXTS: ClassVar[bool] = True

    student_share: Annotated[float, "0 to 1"] = 0.5
    column: str = "solution"

    def rows(self, draw: Draw) -> Batch:
        own = rng(draw.seed, "mixture", draw.step).random() < self.student_share
        return (Student() if own else Dataset(self.column)).rows(draw)
