from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.evaluation.points import side_by_side


@dataclass(frozen=True)
class Perplexity(Analysis):
    """How well a model knows the data's own text: nll, the mean of -log p(token) over all tokens of a column, end token included, nats;
    perplexity = exp(nll)."""

    NEEDS: ClassVar[tuple[str, ...]] = ("data",)
    METRICS: ClassVar[tuple[str, ...]] = ("text/nll", "text/perplexity")

    column: str = "solution"

    def measure(self, ctx: Context) -> dict[str, float | None]:
        rows, total = ctx.pool.written(self.column), 0.0
        for at, (p,) in side_by_side(rows, {"model": ctx.policies["model"]}):
            total -= float(p.logp(rows.action_N[at].to(p.logp_NV.device)).double().sum())
        nll = total / len(rows.action_N)
        return {"text/nll": nll, "text/perplexity": math.exp(nll)}
