from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.loop.batches import sampled_rows, unjudged, unsampled
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.prefixes import PrefixSource
from opd_steps.seeds import rng


@dataclass(frozen=True)
class Records(PrefixSource):
    """Each of the step's prompts, by a coin of its own: the student's sample with chance `student_share`, else the data's own text
    (DP-OPD's lambda, arXiv 2604.04461). So a row is a record's, and knows no other record."""

    OWN: ClassVar[bool] = True
    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    TEXTS: ClassVar[bool] = True
    TRACES: ClassVar[bool] = True
    RECORDS: ClassVar[bool] = True

    student_share: Annotated[float, "0 to 1"] = 0.5
    column: str = "solution"

    def rows(self, draw: Draw) -> Batch:
        own = [p for p in draw.picks if rng(draw.seed, "records", draw.step, p).random() < self.student_share]
        written = [p for p in draw.picks if p not in set(own) for _ in range(draw.n)]
        parts = []
        if own:
            made = sampled_rows(draw.learner, draw.pool, own, draw.n, draw.step, draw.seed, "rollout", version=draw.version)
            parts.append(made.rows)
        if written:
            parts.append(unsampled(draw.texts(self.column).rows(written), draw.version))
        return unjudged(Trajectory.concat(parts))
