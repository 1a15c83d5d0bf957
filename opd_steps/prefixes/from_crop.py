from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from opd_steps.loop.batches import sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class FromCrop(PrefixSource):
    """What the teacher answers when it sees the crop, as rows of the whole picture: the off-policy rival of its opinion (context `crop`)."""

    SAMPLER: ClassVar[str] = "teacher"

    def rows(self, draw: Draw) -> Batch:
        near = replace(draw.pool, view="crop")
        made = sampled_rows(
            draw.policies["teacher"], near, draw.picks, draw.n, draw.step, draw.seed, "rollout", version=draw.version
        )
        return replace(made, rows=made.rows.with_columns(contexts=draw.pool.contexts(made.rows.prompt_B.tolist())))
