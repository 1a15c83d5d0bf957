from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import mean
from opd_steps.config.plugs import plug
from opd_steps.evaluation.points import side_by_side


@dataclass(frozen=True)
class ContextGain(Analysis):
    """Does a teacher's context point to right answers? The model reads its own samples y with and without it (arXiv 2605.12652):

        g_t = log p(y_t | context, y_<t) - log p(y_t | x, y_<t)

    gain_correct, gain_wrong   mean g_t, nats, over the tokens of correct and of wrong samples that have a context
    gap                        gain_correct - gain_wrong
    shown                      share of samples that have a context
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("data",)
    METRICS: ClassVar[tuple[str, ...]] = ("context/gain_correct", "context/gain_wrong", "context/gap", "context/shown")

    context: Any = plug("teachers/contexts", "demo")
    n: Annotated[int, "2 to 1024"] = 8  # samples per prompt, one another's peers

    def measure(self, ctx: Context) -> dict[str, float | None]:
        rows = self.context.prepare(ctx.rollouts("model", self.n), ctx.pool, ctx.seed, "teacher")
        has_B = rows.has_context_B("teacher")
        gains = []
        for at, (plain, shown) in side_by_side(rows, {role: ctx.policies["model"] for role in ("model", "teacher")}):
            action_N = rows.action_N[at].to(plain.logp_NV.device)
            gains.append((shown.logp(action_N) - plain.logp(action_N)).double().cpu())
        gain_N, has_N, right_N = torch.cat(gains), has_B[rows.owner_N], (rows.reward_B > 0)[rows.owner_N]
        correct, wrong = mean(gain_N, has_N & right_N), mean(gain_N, has_N & ~right_N)
        shown = mean(has_B.double())
        gap = None if correct is None or wrong is None else correct - wrong
        found = {"gain_correct": correct, "gain_wrong": wrong, "gap": gap, "shown": shown}
        return {f"context/{name}": value for name, value in found.items()}
