from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.evaluation.points import nll


@dataclass(frozen=True)
class Perplexity(Analysis):
    """How well a model knows the data's own text: nll, the mean of -log p(token) over all tokens of a column, end token included, nats;
    perplexity = exp(nll)."""

    NEEDS: ClassVar[tuple[str, ...]] = ("data",)
    METRICS: ClassVar[tuple[str, ...]] = ("text/nll", "text/perplexity")

    column: str = "solution"

    def measure(self, ctx: Context) -> dict[str, float | None]:
        mean = float(nll(ctx.pool.written(self.column), ctx.policies["model"], "model").mean())
        return {"text/nll": mean, "text/perplexity": math.exp(mean)}
