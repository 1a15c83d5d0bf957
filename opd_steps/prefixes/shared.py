from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class Shared(PrefixSource):
    """The rows of its own prefix that another learner of the node got at this step; "" is the student. It comes before this one."""

    LEARNER: ClassVar[bool] = True

    learner: str = ""

    def rows(self, draw: Draw) -> Batch:
        made = draw.made[self.learner]
        extra = dict(made.rows.extra)
        sources = extra.pop("source", None)
        if sources is None:
            return made
        own = [i for i, source in enumerate(sources) if not source]  # beside rows that further terms of its look at
        return Batch(made.rows.with_columns(extra=extra).rows(own), metrics=made.metrics)
