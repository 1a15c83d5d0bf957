from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.config.plugs import plug
from opd_steps.evaluation.points import kl, side_by_side


@dataclass(frozen=True)
class PresentationGap(Analysis):
    """Psi = mean_t KL( model(. | h, y_<t) || other(. | c, y_<t) ), nats a token, over the model's own answers y to the data as presented,
    h, where `other`, the model as it began, sees the question in full, c (CCOPD, arXiv 2605.30251). World: `sharded`.
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("other", "data")
    METRICS: ClassVar[tuple[str, ...]] = ("gap/kl",)

    context: Any = plug("teachers/contexts", "canonical")

    def measure(self, ctx: Context) -> dict[str, float | None]:
        rows = self.context.prepare(ctx.rollouts("model"), ctx.pool, ctx.seed, "other")
        policies = {role: ctx.policies[role] for role in ("model", "other")}
        total = sum(float(kl(q, p).double().sum()) for _, (q, p) in side_by_side(rows, policies))
        return {"gap/kl": total / int(rows.length_B.sum())}
