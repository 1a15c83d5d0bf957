from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.loop.batches import sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class Teacher(PrefixSource):
    """Fresh samples of the teacher: off-policy distillation on its own texts (SeqKD, arXiv 1606.07947)."""

    SAMPLER: ClassVar[str] = "teacher"

    def rows(self, draw: Draw) -> Batch:
        teacher = draw.policies["teacher"]
        return sampled_rows(teacher, draw.pool, draw.picks, draw.n, draw.step, draw.seed, "rollout", version=draw.version)
