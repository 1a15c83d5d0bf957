from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from opd_steps.loop.batches import written_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class Corpus(PrefixSource):
    """Text as pretraining reads it, in the same order and with loss on as many tokens: distillation in pretraining (arXiv 2605.23857).

    L = (1 - alpha) CE(y, S) + alpha CE(T, S) at every token is {signal: fkl, support: full, estimator: exact, coef: alpha} with
    {estimator: mle, coef: 1 - alpha} added. Nobody sampled or judged these rows.
    """

    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    TEXTS: ClassVar[bool] = True

    column: str = "corpus"
    loss_on: Literal["all", "response"] = "all"

    def rows(self, draw: Draw) -> Batch:
        return written_rows(draw.texts(self.column, self.loss_on, self.column == "corpus"), draw)
