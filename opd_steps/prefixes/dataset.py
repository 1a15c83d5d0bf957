from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.loop.batches import written_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class Dataset(PrefixSource):
    """A text column of the train split, in shuffled epochs. Nobody sampled or judged these rows."""

    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    TEXTS: ClassVar[bool] = True
    TRACES: ClassVar[bool] = True

    column: str = "solution"

    def rows(self, draw: Draw) -> Batch:
        return written_rows(draw.texts(self.column), draw)
