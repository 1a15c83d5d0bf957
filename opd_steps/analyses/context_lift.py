from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._continue import continued
from opd_steps.analyses._mean import mean
from opd_steps.config.plugs import plug
from opd_steps.seeds import derive


@dataclass(frozen=True)
class ContextLift(Analysis):
    """Is a model right more often when it is told what its teacher would see? Its own answers, with and without a context in front:

    alone   share of right answers without it, over the samples that have a context
    told    the same of answers that the model gives with it, as many of every prompt
    lift    told - alone: above 0 the context is read, and of use
    shown   share of samples that have a context
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("data",)
    BRANCHES: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("context/alone", "context/told", "context/lift", "context/shown")

    context: Any = plug("teachers/contexts", "demo")
    n: Annotated[int, "2 to 1024"] = 8  # samples per prompt, one another's peers

    def measure(self, ctx: Context) -> dict[str, float | None]:
        rows = self.context.prepare(ctx.rollouts("model", self.n), ctx.pool, ctx.seed, "teacher")
        has_B, prompts = rows.has_context_B("teacher"), rows.prompt_B.tolist()
        seeds = [derive(ctx.seed, "told", p, i % self.n) for i, p in enumerate(prompts)]
        nothing = [torch.empty(0, dtype=torch.long)] * len(rows)
        shown = rows.extra.get("context:teacher", rows.contexts)
        done = ctx.pool.judge(continued(ctx.policies["model"], shown, nothing, prompts, seeds))
        alone, told = mean(rows.reward_B > 0, has_B), mean(done.reward_B > 0, has_B)
        lift = None if alone is None or told is None else told - alone
        return {"context/alone": alone, "context/told": told, "context/lift": lift, "context/shown": mean(has_B.double())}
