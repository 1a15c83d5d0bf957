from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.errors import UserError
from opd_steps.evaluation.points import side_by_side
from opd_steps.objectives.extrapolation_limit import limit
from opd_steps.tasks.render import response_ids


@dataclass(frozen=True)
class ExtrapolationLimit(Analysis):
    """How far a teacher can be extrapolated from the model, told before training from one structural token (arXiv 2605.08737;
    the formula is our derivation, objectives/extrapolation_limit.py). On the data's solutions, where `token` comes next:

    p, b   geometric mean odds of it, as a probability, of the teacher and of the model, the warm start
    lam    limit(p, b, tail); not defined where the teacher is no surer than the model
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    METRICS: ClassVar[tuple[str, ...]] = ("limit/p", "limit/b", "limit/lam")
    CHECKS: ClassVar[tuple[str, ...]] = ("len(token) >= 1",)

    token: str = "]"
    tail: Annotated[float, "1e-9 to 0.5"] = 0.01  # probability left to everything else at the limit

    def measure(self, ctx: Context) -> dict[str, float | None]:
        ids = response_ids(ctx.policies["model"].tokenizer, self.token)[:1]
        rows = ctx.pool.written("solution")
        odds = {"b": [], "p": []}
        for at, dists in side_by_side(rows, {role: ctx.policies[role] for role in ("model", "teacher")}):
            here = rows.action_N[at] == ids[0]
            for name, dist in zip(odds, dists, strict=True):
                logp_NV = dist.logp_NV[here].double()
                rest_NV = logp_NV.index_fill(1, torch.tensor(ids, device=logp_NV.device), -math.inf)
                odds[name].append((logp_NV[:, ids[0]] - rest_NV.logsumexp(1)).cpu())
        if not len(torch.cat(odds["p"])):
            raise UserError("analyze.analysis.token", f"no solution of these rows holds {self.token!r}")
        found = {name: float(torch.cat(parts).mean().sigmoid()) for name, parts in odds.items()}
        lam = limit(found["p"], found["b"], self.tail) if 0 < found["b"] < found["p"] < 1 else None
        return {"limit/p": found["p"], "limit/b": found["b"], "limit/lam": lam}
