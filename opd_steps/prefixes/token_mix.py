from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.loop.batches import sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class TokenMix(PrefixSource):
    """Each token is drawn from teacher_share * teacher + (1 - teacher_share) * student (MiniLLM, arXiv 2306.08543)."""

    OWN: ClassVar[bool] = True

    SAMPLER: ClassVar[str] = "teacher"
    MIXED: ClassVar[bool] = True

    teacher_share: Annotated[float, "above 0, below 1"] = 0.2

    def rows(self, draw: Draw) -> Batch:
        sampler = draw.learner.mixed_with(draw.policies["teacher"], self.teacher_share)
        return sampled_rows(sampler, draw.pool, draw.picks, draw.n, draw.step, draw.seed, "rollout", version=draw.version)
